/** Kubernetes objects of the manifest and of the chart, as far as the tests look into them. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { ClusterFile } from '../../cni/cluster/file.ts'
import { type DaemonConfig, loadConfig } from '../../cni/daemon/config.ts'
import { must } from '../harness/processes.ts'

export const deploy = (path: string): string =>
  fileURLToPath(new URL(`../../cni/deploy/${path}`, import.meta.url))

export interface Metadata {
  name: string
  namespace: string
  labels: Record<string, string>
  annotations?: Record<string, string>
}

export interface Container {
  name: string
  image: string
  command?: string[]
  args?: string[]
  env?: { name: string }[]
  lifecycle?: object
  livenessProbe?: { exec: { command: string[] } }
  readinessProbe?: { exec: { command: string[] } }
  resources: { requests: Record<string, string>; limits?: Record<string, string> }
  securityContext: { privileged?: boolean; capabilities?: { drop: string[]; add?: string[] } }
  volumeMounts: { name: string; mountPath: string; mountPropagation?: string }[]
}

export interface PodSpec {
  serviceAccountName: string
  automountServiceAccountToken: boolean
  priorityClassName: string
  hostNetwork: boolean
  hostPID?: boolean
  affinity?: object
  nodeSelector: Record<string, string>
  tolerations: unknown[]
  initContainers: Container[]
  containers: Container[]
  volumes: { name: string; hostPath?: { path: string }; configMap?: { name: string } }[]
}

export interface Objects {
  ServiceAccount: { metadata: Metadata; automountServiceAccountToken: boolean }
  ConfigMap: { metadata: Metadata; data: Record<string, string> }
  DaemonSet: {
    metadata: Metadata
    spec: {
      selector: { matchLabels: Record<string, string> }
      template: { metadata: Omit<Metadata, 'name' | 'namespace'>; spec: PodSpec }
    }
  }
}

/** Objects of a manifest; throws when YAML is broken. */
function documentsOf(text: string): { kind: string; metadata: Metadata }[] {
  const documents = parseAllDocuments(text)
  if (!Array.isArray(documents)) throw new Error('an empty manifest')
  return documents.map(document => {
    const [broken] = [...document.errors, ...document.warnings]
    if (broken) throw broken
    return document.toJS() as { kind: string; metadata: Metadata }
  })
}

const UNINSTALL = 'hawser-uninstall'

/** The DaemonSet that cleans nodes, if the manifest has one. */
export function uninstallOf(text: string): Objects['DaemonSet'] | undefined {
  const found = documentsOf(text).find(({ metadata }) => metadata.name === UNINSTALL)
  return found as unknown as Objects['DaemonSet'] | undefined
}

/** The other objects of a manifest, by kind; throws when YAML is broken, or another kind or number is there. */
export function objectsOf(text: string): Objects {
  const objects = documentsOf(text).filter(({ metadata }) => metadata.name !== UNINSTALL)
  const kinds = objects.map(({ kind }) => kind).sort()
  if (kinds.join() !== 'ConfigMap,DaemonSet,ServiceAccount') throw new Error(kinds.join())
  return Object.fromEntries(objects.map(each => [each.kind, each])) as unknown as Objects
}

export const plainManifest = (): string => readFileSync(deploy('daemonset.yaml'), 'utf8')

export interface Verdict {
  kind: string
  name: string
  errors: string[]
  qos?: string
}

/** What the API server's own validation says of each object. */
export async function verdicts(validator: string, manifest: string): Promise<Verdict[]> {
  const said = await must(validator, [], { input: manifest })
  return said
    .trim()
    .split('\n')
    .map(line => JSON.parse(line) as Verdict)
}

/**
 * The daemon's own view of the ConfigMap's files on `node`; throws what the daemon would say. The
 * cluster file is taken from the map, not from where the configuration says that it is mounted.
 */
export function loadFrom(
  { data }: Objects['ConfigMap'],
  node: string,
): { config: DaemonConfig; cluster: ReturnType<typeof ClusterFile.read> } {
  const folder = mkdtempSync(join(tmpdir(), 'hawser-config-'))
  try {
    for (const [name, text] of Object.entries(data)) writeFileSync(join(folder, name), text)
    const config = loadConfig({ config: join(folder, 'hawser.yaml'), node })
    return { config, cluster: ClusterFile.read(join(folder, 'cluster.yaml'), node) }
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
