/** The ACLs by name. To add one: a file beside this one, and its two families in ACLS. */
import type { Acl } from './acl.ts'
import { bitvector4, bitvector6 } from './bitvector/bitvector.ts'
import { linear4, linear6 } from './linear.ts'
import { tree4, tree6 } from './tree/tree.ts'
import { tree4_native, tree6_native } from './tree/tree_native.ts'
import { tss4, tss6 } from './tuple/tss.ts'
import { tuplemerge4, tuplemerge6 } from './tuple/tuplemerge.ts'
import { tuplemerge4_native, tuplemerge6_native } from './tuple/tuplemerge_native.ts'

/** Of each family, the first one is what an engine takes when nobody says otherwise. */
const ACLS: readonly Acl[] = [
  tuplemerge4,
  tuplemerge6,
  tuplemerge4_native,
  tuplemerge6_native,
  tss4,
  tss6,
  linear4,
  linear6,
  tree4,
  tree6,
  tree4_native,
  tree6_native,
  bitvector4,
  bitvector6,
]

/** Names of the ACLs of a family; the default one is the first. */
export function aclNames(family: 4 | 6): string[] {
  return ACLS.filter(acl => acl.family === family).map(acl => acl.name)
}

/** Name of the ACL that serves a family by default. */
export function defaultAcl(family: 4 | 6): string {
  return aclNames(family)[0]!
}

/** The ACL of that name; throws RangeError, with the names that there are, for another one. */
export function aclByName(name: string, family: 4 | 6): Acl {
  const acl = ACLS.find(each => each.name === name && each.family === family)
  if (acl === undefined) {
    throw new RangeError(
      `ACL ${JSON.stringify(name)}: there is none for IPv${family} (${aclNames(family).join(', ')})`,
    )
  }
  return acl
}
