// Reads Kubernetes objects (YAML documents) on stdin and says what the API server would: each is decoded
// strictly (an unknown or doubled field is an error), gets its defaults and is validated. One line of
// JSON an object: kind, name, the errors, and the QoS class of a pod template. Built by go.ts against
// the modules of ../kubernetes/go.mod.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	"k8s.io/kubernetes/pkg/apis/apps"
	_ "k8s.io/kubernetes/pkg/apis/apps/install"
	appsvalidation "k8s.io/kubernetes/pkg/apis/apps/validation"
	"k8s.io/kubernetes/pkg/apis/core"
	"k8s.io/kubernetes/pkg/apis/core/helper/qos"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/apis/core/validation"
	"k8s.io/kubernetes/pkg/capabilities"
)

type verdict struct {
	Kind   string   `json:"kind"`
	Name   string   `json:"name"`
	Errors []string `json:"errors"`
	QoS    string   `json:"qos,omitempty"`
}

func judge(decoder runtime.Decoder, document []byte) verdict {
	said := verdict{Errors: []string{}}
	object, kind, err := decoder.Decode(document, nil, nil)
	if err != nil {
		said.Errors = append(said.Errors, err.Error())
	}
	if kind != nil {
		said.Kind = kind.Kind
	}
	if object == nil {
		return said
	}
	if access, err := meta.Accessor(object); err == nil {
		said.Name = access.GetName()
	}
	var found field.ErrorList
	switch object := object.(type) {
	case *apps.DaemonSet:
		found = appsvalidation.ValidateDaemonSet(object, validation.PodValidationOptions{})
		said.QoS = string(qos.ComputePodQOS(&core.Pod{Spec: object.Spec.Template.Spec}))
	case *core.ConfigMap:
		found = validation.ValidateConfigMap(object)
	case *core.ServiceAccount:
		found = validation.ValidateServiceAccount(object)
	default:
		said.Errors = append(said.Errors, "nobody validates this kind here")
	}
	for _, each := range found {
		said.Errors = append(said.Errors, each.Error())
	}
	return said
}

func main() {
	// As an API server is usually started: --allow-privileged.
	capabilities.Setup(true, 0)
	decoder := serializer.NewCodecFactory(legacyscheme.Scheme, serializer.EnableStrict).UniversalDecoder()
	documents := yaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			panic(err)
		}
		if err := out.Encode(judge(decoder, document)); err != nil {
			panic(err)
		}
	}
}
