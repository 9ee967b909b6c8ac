/** VERSION: the versions that we speak; needs nothing, not even a configuration. */
import { CNI_VERSIONS, LATEST_CNI_VERSION } from '../spec/versions.ts'

/** `cniVersion`: the one asked in, if any. */
export function version(cniVersion: string | undefined): object {
  return {
    cniVersion: CNI_VERSIONS.find(known => known === cniVersion) ?? LATEST_CNI_VERSION,
    supportedVersions: CNI_VERSIONS,
  }
}
