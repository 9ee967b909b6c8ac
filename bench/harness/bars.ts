/**
 * What ratios and figures are held to. A name that is not here is measured, and held to nothing.
 * Native code is held to parity with DPDK's, TypeScript to a share of it; a native twin has to be worth
 * its C++.
 */
export interface Bar {
  atLeast?: number
  atMost?: number
}

const BARS: Record<string, Bar> = {
  fib4_native_vs_rte_fib: { atLeast: 1 },
  fib6_native_vs_rte_fib6: { atLeast: 1 },
  fib4_ts_vs_rte_lpm: { atLeast: 0.5 },
  fib_full_build_seconds: { atMost: 2 },
  fib4_updates_per_second: { atLeast: 200_000 },
  fib6_updates_per_second: { atLeast: 200_000 },
  fib4_smallest_bytes: { atMost: 4 * 2 ** 20 },
  acl_native_vs_rte_acl: { atLeast: 1 },
  acl_tuplemerge_vs_tss: { atLeast: 1.5 },
  flow_ts_vs_native: { atLeast: 0.6 },
  checksum_kernel_1500_gigabytes_per_second: { atLeast: 30 },
  checksum_batch_1500_gigabytes_per_second: { atLeast: 30 },
  hawser_vs_bare_afxdp: { atLeast: 0.9 },
  hawser_vs_kernel_vxlan: { atLeast: 1.5 },
  tap_tcp1_vs_kernel: { atLeast: 0.85 },
  tun_tcp1_vs_kernel: { atLeast: 0.7 },
  xdp_retransmits_vs_kernel: { atMost: 2 },
  established_12500_vs_0: { atLeast: 0.97 },
  new_12500_vs_10: { atLeast: 0.5 },
  flows_1m_vs_1k: { atLeast: 0.7 },
  new_flows_vs_nft: { atLeast: 1.5 },
  packets_vs_nft: { atLeast: 2 },
  flow_memory_1m: { atMost: 192 },
  compile_12500_rules: { atMost: 2000 },
  change_of_1000_p99: { atMost: 100 },
  file_to_denied_ms_p99: { atMost: 100 },
  file_to_allowed_ms_p99: { atMost: 100 },
  add_del_vs_bridge: { atMost: 0.25 },
  add_del_p99_vs_bridge: { atMost: 1 },
  parallel_vs_bridge: { atMost: 0.45 },
  add_p99_full_vs_first: { atMost: 2 },
  cni_memory_per_pod: { atMost: 1024 },
  cluster_5000_start: { atMost: 10 },
  cluster_5000_memory: { atMost: 300 },
  cluster_5000_cpu: { atMost: 1 },
}
/** Any `NAME_native_vs_ts`. */
const NATIVE_TWIN: Bar = { atLeast: 1.3 }

export function barOf(name: string): Bar | undefined {
  return BARS[name] ?? (name.endsWith('_native_vs_ts') ? NATIVE_TWIN : undefined)
}

export function holds({ atLeast, atMost }: Bar, value: number): boolean {
  return !(value < (atLeast ?? -Infinity)) && !(value > (atMost ?? Infinity))
}

/** `≥ 1` or `≤ 4,194,304`. */
export function barText({ atLeast, atMost }: Bar): string {
  const parts: string[] = []
  if (atLeast !== undefined) parts.push(`≥ ${atLeast.toLocaleString('en-US')}`)
  if (atMost !== undefined) parts.push(`≤ ${atMost.toLocaleString('en-US')}`)
  return parts.join(', ')
}
