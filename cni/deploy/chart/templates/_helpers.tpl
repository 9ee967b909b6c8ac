{{/* A cluster's nodes have one hawser each: names are fixed, and so is the selector. */}}
{{- define "hawser.selector" -}}
app.kubernetes.io/name: hawser
{{- end }}

{{- define "hawser.labels" -}}
{{ include "hawser.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "hawser.image" -}}
image: {{ printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
{{- end }}

{{/* hawser.yaml: the values, and where the daemon installs itself. */}}
{{- define "hawser.config" -}}
{{- $list := ternary "/etc/hawser/10-hawser.conflist" "default" (not (empty .Values.conflist)) -}}
{{- $install := dict "binDir" .Values.cni.binDir "confDir" .Values.cni.confDir "conflist" $list -}}
{{- toYaml (merge (dict "install" $install) .Values.config) -}}
{{- end }}
