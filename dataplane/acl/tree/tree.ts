/**
 * Decision trees. Rules are parted by the width of their addresses, so that few have to be copied;
 * each part is a tree whose nodes cut a window of header bits into up to 2^12 children, and whose
 * leaves are blocks of eight rules that are compared at once (by the native twin). A classification
 * walks the trees by their least order and leaves whatever can't hold a better rule than it has.
 *
 * After W. Li, X. Li, H. Li, G. Xie: CutSplit (INFOCOM 2018); B. Vamanan, G. Voskuilen, T. N.
 * Vijaykumar: EffiCuts (SIGCOMM 2010); J. Daly, E. Torng: ByteCuts (INFOCOM 2018).
 *
 * Memory: tree-layout.ts, in each of the two halves of rebuild.ts, which says why a concurrent
 * reader sees one set of rules. Every set of `limits.rules` rules fits: copies are given up first
 * (tree-build.ts), so a set of wide rules that can't be told apart costs time, not memory.
 */
import { type Acl, type AclLimits, type AclReader, HEADER_WORDS } from '../acl.ts'
import { rebuilt, type Structure } from '../rebuild/rebuild.ts'
import { buildTrees } from './build.ts'
import { NO_ORDER, openTree, ROOTS, TREES, treeSizes } from './layout.ts'
import { blockFinder } from './match.ts'

export function treeStructure(family: 4 | 6): Structure {
  return {
    name: `tree${family}`,
    family,
    halfBytes: limits => treeSizes(family, limits).bytes,
    build: (rules, half, limits) => buildTrees(rules, openTree(family, half, limits)),
    reader: (half, limits) => reader(family, half, limits),
  }
}

function reader(family: 4 | 6, half: Uint8Array, limits: AclLimits): AclReader {
  const memory = openTree(family, half, limits)
  const find = blockFinder(family, memory)
  const { words, nodesAt } = memory
  const stride = HEADER_WORDS[family]

  return {
    classify(headers, n, rules) {
      const roots = ROOTS + 2 * words[TREES]!
      for (let i = 0; i < n; i++) {
        const header = i * stride
        let best = NO_ORDER
        let rule = 0
        for (let root = ROOTS; root < roots; root += 2) {
          let at = root
          let word = words[at + 1]!
          while ((word & 15) !== 0 && word >>> 16 < best) {
            const bits = headers[header + ((word >>> 4) & 15)]! >>> ((word >>> 8) & 31)
            at = nodesAt + 2 * (words[at]! + (bits & ((1 << (word & 15)) - 1)))
            word = words[at + 1]!
          }
          if (word >>> 16 >= best) continue
          const first = words[at]!
          const answer = find(headers, header, first, first + ((word >>> 4) & 0xfff))
          if (answer < 0 || words[answer]! >>> 16 >= best) continue
          best = words[answer]! >>> 16
          rule = words[answer]! & 0xffff
        }
        rules[i] = rule
      }
    },
  }
}

export const tree4: Acl = rebuilt(treeStructure(4))
export const tree6: Acl = rebuilt(treeStructure(6))
