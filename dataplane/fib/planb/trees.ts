/**
 * The writer's end of the trees of planb6.ts. Three things are done to a tree: `cut` makes a range
 * begin at a key, `paint` gives ranges another next hop, `join` makes two ranges of one route one
 * again. Only `paint` changes answers, by one store for each range; all else puts new nodes in the
 * place of old ones by one store.
 *
 * For each entry of a leaf the writer knows the `owner`: the length of the route that the range
 * belongs to, 0 for none. Two neighbours of one length belong to one route unless the border between
 * them is a multiple of that length.
 */
import type { FibLimits } from '../fib.ts'
import { slots } from '../slots.ts'
import { advance } from '../version.ts'
import {
  CELL_BITS,
  CELL_END,
  CELLS,
  DEEPER,
  FAN,
  FAN_NODES,
  FLAGS,
  fansFor,
  HOP_SHIFT,
  isInner,
  isNode,
  linkTo,
  NODE_SHIFT,
  NODE_WORDS,
  nodeOf,
  nodesFor,
  ROOT,
  rootOf,
  SLICE_END,
  sliceOf,
  type Tables,
  VALUES,
  WIDTH,
} from './layout.ts'
import { span, together } from './ranges.ts'

/** Fewest entries of a node that isn't the top one of its tree; two of them fit one node. */
const LEAST = 5
/** A neighbour with so many takes some of a full node's, before that one is split. */
const ROOMY = WIDTH - 4
/** A split that makes a place so near to the end leaves the rest full, since more is likely to come there. */
const NEAR_END = 3
/** More than nodes lie above each other in the trees of all layers. */
const DEPTH = 64

export interface Trees {
  /** Nodes that nobody needs now. */
  available(): number
  /** Makes the borders of a route of more than ROOT_BITS bits, and the trees on the way there. */
  cutOut(address: Address, prefix: number): void
  /** Gives what is below the prefix and has owners of `least` .. `most` bits to `owner`, whose next hop is `hop`. */
  paint(at: Prefix, least: number, most: number, owner: number, hop: number): void
  /** Takes away the borders that nothing needs any more, and trees without any. */
  joinUp(address: Address, prefix: number): void
}

type Address = ArrayLike<number>

interface Prefix {
  address: Address
  prefix: number
}

/** The trees of a table that is empty. */
export function trees(tables: Tables, limits: FibLimits): Trees {
  const { header, rootValues, keys, values } = tables
  const fanCount = fansFor(limits)
  const firstNode = fanCount * FAN_NODES
  const count = firstNode + nodesFor(limits)
  const free = slots(firstNode, count)
  const freeFans = slots(0, fanCount)
  /** By root entry: routes of more than ROOT_BITS bits. */
  const routesIn = new Uint32Array(ROOT)
  /** By word of a fan: as `owners`, where there is no node. */
  const cellOwners = new Uint8Array(fanCount * CELLS)
  /** By node: its entries, which are the last ones of its WIDTH places. */
  const used = new Uint8Array(count)
  /** By node and place; only leaves have them. */
  const owners = new Uint8Array(count * WIDTH)

  /** Where `find` came by: nodes, the place in each, and the level where the last tree begins. */
  const nodeAt = new Int32Array(DEPTH)
  const placeAt = new Int32Array(DEPTH)
  let depth = 0
  let treeLevel = 0
  let root = 0
  /** The word that links the first one: in the root, or in a fan. */
  let topWords = rootValues
  let topAt = 0

  /** The entries of a node that is being made; two nodes' at most, and one more. */
  const newKeys = new Uint32Array(2 * WIDTH + 1)
  const newValues = new Int32Array(2 * WIDTH + 1)
  const newOwners = new Uint8Array(2 * WIDTH + 1)
  let entries = 0

  /** A change of nodes begins: readers see that, and what earlier ones unlinked may be used again. */
  function begin(): void {
    advance(header)
    free.quiesced()
    freeFans.quiesced()
    entries = 0
  }

  function add(key: number, value: number, owner: number): void {
    newKeys[entries] = key
    newValues[entries] = value
    newOwners[entries++] = owner
  }

  /** Adds the entries at places `from` .. `to - 1` of a node. */
  function addFrom(node: number, from: number, to: number): void {
    for (let place = Math.max(from, firstPlace(node)); place < to; place++) {
      const at = node * NODE_WORDS + place
      add(keys[at]!, values[at + VALUES]!, owners[node * WIDTH + place]!)
    }
  }

  /** A node, not linked yet, of the new entries `from` .. `to - 1`. */
  function make(from: number, to: number): number {
    const node = free.take()
    const first = WIDTH - (to - from)
    const base = node * NODE_WORDS
    used[node] = to - from
    for (let place = 0; place < first; place++) keys[base + place] = 0
    for (let place = first, i = from; i < to; place++, i++) {
      keys[base + place] = newKeys[i]!
      values[base + place + VALUES] = newValues[i]!
      owners[node * WIDTH + place] = newOwners[i]!
    }
    return node
  }

  function firstPlace(node: number): number {
    return WIDTH - used[node]!
  }

  /** Place of the entry that a slice value belongs to, the first one for values below. */
  function placeOf(node: number, slice: number): number {
    const base = node * NODE_WORDS
    let place = WIDTH - 1
    const first = firstPlace(node)
    while (place > first && keys[base + place]! > slice) place--
    return place
  }

  /** Goes down to the entry of `key` in the address's tree of that layer; false when there is no such tree. */
  function find(address: Address, layer: number, key: number): boolean {
    root = rootOf(address)
    topWords = rootValues
    topAt = root
    depth = 0
    let value = rootValues[root]!
    for (let above = 0; isNode(value); above++) {
      treeLevel = depth
      const slice = above === layer ? key : sliceOf(address, above)
      if ((value & FAN) !== 0) {
        topWords = values
        topAt = nodeOf(value) * NODE_WORDS + (slice >>> CELL_BITS)
        value = values[topAt]!
        if (!isNode(value)) return false
      }
      do {
        const node = nodeOf(value)
        nodeAt[depth] = node
        placeAt[depth] = placeOf(node, slice)
        value = values[node * NODE_WORDS + placeAt[depth]! + VALUES]!
        depth++
      } while (isInner(value))
      if (above === layer) return true
    }
    return false
  }

  /** Index in `values` of the entry where `find` ended. */
  function found(): number {
    return nodeAt[depth - 1]! * NODE_WORDS + placeAt[depth - 1]! + VALUES
  }

  /** Puts a node in the place of the one at that level: the store by which readers see a step. */
  function publish(level: number, node: number): void {
    if (level === 0) {
      Atomics.store(topWords, topAt, linkTo(node))
      return
    }
    const at = nodeAt[level - 1]! * NODE_WORDS + placeAt[level - 1]! + VALUES
    Atomics.store(values, at, (values[at]! & FLAGS) | (node << NODE_SHIFT))
  }

  /**
   * The new entries take the place of those of the node at that level, in a tree of layer `layer`.
   * `changed` is the number of the one behind the change: a node that grows at its end is left full.
   */
  function settle(level: number, layer: number, changed: number): void {
    const isTop = level === treeLevel
    free.retire(nodeAt[level]!)
    if (entries > WIDTH) {
      const atEnd = entries - changed <= NEAR_END
      const place = isTop ? 0 : placeAt[level - 1]!
      const gone = isTop ? 0 : gather(level, layer, ROOMY)
      const half = atEnd ? Math.min(WIDTH, entries - LEAST) : entries >>> 1
      split(level, layer, half, gone < 0 ? place - 1 : place, 1 + Math.abs(gone))
    } else if (!isTop && entries < LEAST) {
      const gone = gather(level, layer, WIDTH)
      const place = gone < 0 ? placeAt[level - 1]! - 1 : placeAt[level - 1]!
      if (entries > WIDTH) split(level, layer, entries >>> 1, place, 2)
      else unite(level, layer, place)
    } else if (isTop && entries === 1 && isInner(newValues[0]!)) {
      publish(level, nodeOf(newValues[0]!))
    } else {
      publish(level, make(0, entries))
    }
  }

  /** Two nodes of the new entries, the second one from number `half` on, replace `gone` ones at a place of the node above. */
  function split(level: number, layer: number, half: number, place: number, gone: number): void {
    const [leftKey, rightKey] = [newKeys[0]!, newKeys[half]!]
    const left = make(0, half)
    const right = make(half, entries)
    entries = 0
    if (level === treeLevel) {
      add(leftKey, linkTo(left), 0)
      add(rightKey, linkTo(right), 0)
      publish(level, make(0, 2))
      return
    }
    const above = nodeAt[level - 1]!
    addFrom(above, 0, place)
    add(leftKey, linkTo(left), 0)
    add(rightKey, linkTo(right), 0)
    addFrom(above, place + gone, WIDTH)
    settle(level - 1, layer, place + 2 - firstPlace(above))
  }

  /**
   * Adds the entries of a neighbour that has `most` at most to the new ones: -1 of the one before, 1
   * of the one behind, 0 of none.
   */
  function gather(level: number, layer: number, most: number): -1 | 0 | 1 {
    const above = nodeAt[level - 1]!
    const mine = placeAt[level - 1]!
    for (const side of [-1, 1] as const) {
      const place = mine + side
      if (place < firstPlace(above) || place === WIDTH) continue
      const beside = nodeOf(values[above * NODE_WORDS + place + VALUES]!)
      const count = used[beside]!
      if (count > most) continue
      const own = entries
      if (side < 0) {
        for (const column of [newKeys, newValues, newOwners]) column.copyWithin(count, 0, own)
        entries = 0
      }
      addFrom(beside, 0, WIDTH)
      entries = own + count
      mend(side < 0 ? count : own, layer)
      free.retire(beside)
      return side
    }
    return 0
  }

  /** One node of the new entries replaces two at a place of the node above. */
  function unite(level: number, layer: number, place: number): void {
    const above = nodeAt[level - 1]!
    const key = newKeys[0]!
    const node = make(0, entries)
    entries = 0
    addFrom(above, 0, place)
    add(key, linkTo(node), 0)
    addFrom(above, place + 2, WIDTH)
    settle(level - 1, layer, 0)
  }

  /** Drops the new entry `seam` if it is a range of the same route as the one before it. */
  function mend(seam: number, layer: number): void {
    if (isNode(newValues[seam]!) || isNode(newValues[seam - 1]!)) return
    if (!together(newOwners[seam - 1]!, newOwners[seam]!, newKeys[seam]!, layer)) return
    for (const column of [newKeys, newValues, newOwners]) column.copyWithin(seam, seam + 1, entries)
    entries--
  }

  /** In layer 0, makes a tree that `key` can be put into: from a full node a fan, from a cell a tree. */
  function prepare(address: Address, key: number): void {
    find(address, 0, key)
    const isRoot = topWords === rootValues && depth === 1
    if (isRoot && used[nodeAt[0]!] === WIDTH && freeFans.available > 0) {
      spread(nodeAt[0]!)
      find(address, 0, key)
    }
    if (depth > 0 || (key & CELL_END) === 0) return
    begin()
    add((key & ~CELL_END) >>> 0, values[topAt]!, cellOwners[topAt]!)
    Atomics.store(values, topAt, linkTo(make(0, 1)))
  }

  /** Puts a fan in the place of a tree of one node. */
  function spread(node: number): void {
    begin()
    addFrom(node, 0, WIDTH)
    const fan = freeFans.take()
    let from = 0
    for (let cell = 0; cell < CELLS; cell++) {
      const first = (cell << CELL_BITS) >>> 0
      while (from + 1 < entries && newKeys[from + 1]! <= first) from++
      let to = from + 1
      while (to < entries && newKeys[to]! - first <= CELL_END) to++
      const at = fan * CELLS + cell
      cellOwners[at] = newOwners[from]!
      if (to === from + 1) {
        values[at] = newValues[from]!
      } else {
        newKeys[from] = first
        values[at] = linkTo(make(from, to))
      }
    }
    Atomics.store(rootValues, root, linkTo(fan * FAN_NODES) | FAN)
    free.retire(node)
  }

  /** Makes a range begin at `key`. Where a cell of a fan begins, one does. */
  function cut(address: Address, layer: number, key: number): void {
    if (key === 0 || key > SLICE_END) return
    if (layer === 0) prepare(address, key)
    if (!find(address, layer, key)) return
    const leaf = nodeAt[depth - 1]!
    const place = placeAt[depth - 1]!
    if (keys[leaf * NODE_WORDS + place] === key) return
    begin()
    addFrom(leaf, 0, place + 1)
    add(key, values[found()]!, owners[leaf * WIDTH + place]!)
    const changed = entries
    addFrom(leaf, place + 1, WIDTH)
    settle(depth - 1, layer, changed)
  }

  /** Makes the ranges before and behind `key` one if they belong to one route and lie in one leaf. */
  function join(address: Address, layer: number, key: number): void {
    if (key === 0 || key > SLICE_END || !find(address, layer, key)) return
    const leaf = nodeAt[depth - 1]!
    const place = placeAt[depth - 1]!
    if (keys[leaf * NODE_WORDS + place] !== key || place === firstPlace(leaf)) return
    if (isNode(values[found()]!) || isNode(values[found() - 1]!)) return
    const at = leaf * WIDTH + place
    if (!together(owners[at - 1]!, owners[at]!, key, layer)) return
    begin()
    addFrom(leaf, 0, place)
    addFrom(leaf, place + 1, WIDTH)
    settle(depth - 1, layer, 0)
  }

  /** Makes the trees of an address that are missing, down to that of `layer`. */
  function reach(address: Address, layer: number): void {
    if (rootValues[rootOf(address)] === 0) {
      begin()
      add(0, 0, 0)
      Atomics.store(rootValues, rootOf(address), linkTo(make(0, 1)))
    }
    for (let above = 0; above < layer; above++) {
      const slice = sliceOf(address, above)
      if (find(address, above, slice) && isNode(values[found()]!)) continue
      cut(address, above, slice)
      cut(address, above, slice + 1)
      find(address, above, slice)
      begin()
      add(0, values[found()]!, owners[nodeAt[depth - 1]! * WIDTH + placeAt[depth - 1]!]!)
      Atomics.store(values, found(), linkTo(make(0, 1)) | DEEPER)
    }
  }

  /** Takes trees of an address away that decide nothing, from that of `layer` up. */
  function prune(address: Address, layer: number): void {
    for (let from = layer; from >= 0; from--) {
      if (!find(address, from, sliceOf(address, from))) return
      const node = nodeAt[treeLevel]!
      const value = values[found()]!
      if (depth - 1 !== treeLevel || used[node] !== 1 || isNode(value)) return
      begin()
      free.retire(node)
      if (from === 0) {
        if (topWords === values) cellOwners[topAt] = owners[node * WIDTH + WIDTH - 1]!
        Atomics.store(topWords, topAt, value)
        return
      }
      depth--
      Atomics.store(values, found(), value)
      const slice = sliceOf(address, from - 1)
      join(address, from - 1, slice)
      join(address, from - 1, slice + 1)
    }
  }

  /** Takes a fan away that no route needs: all its cells say that there is none. */
  function fold(address: Address): void {
    const value = rootValues[rootOf(address)]!
    if (--routesIn[rootOf(address)]! > 0 || (value & FAN) === 0) return
    begin()
    Atomics.store(rootValues, rootOf(address), 0)
    freeFans.retire(nodeOf(value) / FAN_NODES)
  }

  let least = 0
  let most = 0
  let newOwner = 0
  let newHop = 0

  /** Paints what a node has from slice value `first` to `last`. */
  function paintNode(node: number, first: number, last: number): void {
    for (let place = placeOf(node, first); place < WIDTH; place++) {
      const at = node * NODE_WORDS + place
      if (keys[at]! > last) return
      const value = values[at + VALUES]!
      if (isInner(value)) {
        paintNode(nodeOf(value), first, last)
        continue
      }
      const owner = owners[node * WIDTH + place]!
      if (owner < least || owner > most) continue
      owners[node * WIDTH + place] = newOwner
      if (isNode(value)) paintNode(nodeOf(value), 0, SLICE_END)
      else values[at + VALUES] = newHop << HOP_SHIFT
    }
  }

  /** As `paintNode`, what a fan has. */
  function paintFan(fan: number, first: number, last: number): void {
    const end = fan + (last >>> CELL_BITS)
    for (let at = fan + (first >>> CELL_BITS); at <= end; at++) {
      if (isNode(values[at]!)) {
        paintNode(nodeOf(values[at]!), first, last)
      } else if (cellOwners[at]! >= least && cellOwners[at]! <= most) {
        cellOwners[at] = newOwner
        values[at] = newHop << HOP_SHIFT
      }
    }
  }

  return {
    available: () => free.available + free.waiting,

    cutOut(address, prefix) {
      const { layer, first, last } = span(address, prefix)
      routesIn[rootOf(address)]!++
      reach(address, layer)
      cut(address, layer, first)
      cut(address, layer, last + 1)
    },

    paint({ address, prefix }, from, to, owner, hop) {
      const { layer, first, last } = span(address, prefix)
      advance(header)
      least = from
      most = to
      newOwner = owner
      newHop = hop
      const top = rootValues[rootOf(address)]!
      if (layer === 0 && (top & FAN) !== 0) {
        paintFan(nodeOf(top) * NODE_WORDS, first, last)
      } else {
        find(address, layer, first)
        paintNode(nodeAt[treeLevel]!, first, last)
      }
    },

    joinUp(address, prefix) {
      const { layer, first, last } = span(address, prefix)
      join(address, layer, first)
      join(address, layer, last + 1)
      prune(address, layer)
      fold(address)
    },
  }
}
