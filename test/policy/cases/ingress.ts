/** What may reach pods: who is selected, and by what. */
import { type Case, networkPolicy, no, once, tcp, yes } from '../world.ts'

/** The label that the API server gives every namespace. */
const name = (namespace: string) => ({ 'kubernetes.io/metadata.name': namespace })
const namespaceIs = (namespace: string) => ({ matchLabels: name(namespace) })
const namespaceExpression = (operator: string, ...values: string[]) => ({
  matchExpressions: [{ key: 'kubernetes.io/metadata.name', operator, values }],
})
const podIs = (pod: string) => ({ matchLabels: { pod } })
const podIn = (...values: string[]) => ({
  matchExpressions: [{ key: 'pod', operator: 'In', values }],
})
/** Pods x/a get only what comes `from` these. */
const toA = (...from: object[]) =>
  networkPolicy('x', 'to-a', { podSelector: podIs('a'), ingress: [{ from }] })
const ALL = {}

export const DENY_INGRESS = networkPolicy('x', 'deny-ingress', {
  ...{ podSelector: ALL, policyTypes: ['Ingress'] },
})
export const DENY_ALL = networkPolicy('x', 'deny-all', {
  ...{ podSelector: ALL, policyTypes: ['Ingress', 'Egress'] },
})
/** Only those of namespace y reach x/a. */
const ONLY_Y = tcp(80, no('x/*', 'x/a'), no('z/*', 'x/a'))

export const INGRESS: readonly Case[] = [
  once('nothing in', [DENY_INGRESS], tcp(80, no('*', 'x/*'))),
  once('nothing in or out', [DENY_ALL], tcp(80, no('*', 'x/*'), no('x/*', '*'))),
  once(
    'from a pod of its namespace',
    [toA({ podSelector: podIs('b') })],
    tcp(80, no('*', 'x/a'), yes('x/b', 'x/a')),
  ),
  once(
    'one of an isolated namespace is open to all',
    [DENY_INGRESS, toA({ podSelector: ALL, namespaceSelector: ALL })],
    tcp(80, no('*', 'x/*'), yes('*', 'x/a')),
  ),
  once('from all namespaces', [toA({ namespaceSelector: ALL })], tcp(80)),
  once('from another namespace', [toA({ namespaceSelector: namespaceIs('y') })], ONLY_Y),
  once(
    'pods by an expression',
    [toA({ podSelector: podIn('b') })],
    tcp(80, no('*', 'x/a'), yes('x/b', 'x/a')),
  ),
  once(
    'namespaces by an expression',
    [toA({ namespaceSelector: namespaceExpression('In', 'y') })],
    ONLY_Y,
  ),
  once(
    'pods of its own or other namespaces',
    [toA({ namespaceSelector: namespaceExpression('NotIn', 'x') }, { podSelector: podIs('b') })],
    tcp(80, no('x/c', 'x/a')),
  ),
  once(
    'pods of other namespaces',
    [toA({ namespaceSelector: namespaceExpression('NotIn', 'x'), podSelector: podIs('b') })],
    tcp(80, no('*', 'x/a'), yes('y/b', 'x/a'), yes('z/b', 'x/a')),
  ),
  once(
    'several pods of several namespaces',
    [toA({ namespaceSelector: namespaceExpression('NotIn', 'x'), podSelector: podIn('b', 'c') })],
    tcp(80, no('x/*', 'x/a'), no('y/a', 'x/a'), no('z/a', 'x/a')),
  ),
  once(
    'one pod or another',
    [toA({ podSelector: podIs('b') }, { podSelector: podIs('c') })],
    tcp(80, no('*', 'x/a'), yes('x/b', 'x/a'), yes('x/c', 'x/a')),
  ),
  once(
    'one pod of another namespace',
    [toA({ namespaceSelector: namespaceIs('y'), podSelector: podIs('a') })],
    tcp(80, no('*', 'x/a'), yes('y/a', 'x/a')),
  ),
  once(
    'from its own namespace alone',
    [networkPolicy('x', 'own', { podSelector: ALL, ingress: [{ from: [{ podSelector: ALL }] }] })],
    tcp(80, no('y/*', 'x/*'), no('z/*', 'x/*')),
  ),
  once(
    'a namespace by the label that it has of its own',
    [toA({ namespaceSelector: { matchLabels: name('y') } })],
    ONLY_Y,
  ),
]
