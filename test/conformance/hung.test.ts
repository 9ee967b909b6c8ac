/**
 * hawser with a daemon that hangs, behind the executable alone and behind containerd: in a file of
 * their own and side by side, since an ADD takes its time to give up.
 */
import { afterAll, expect, test } from 'vitest'
import { conformance } from '../../cni/conformance/runner.ts'
import { hungBehindContainerd } from '../containerd/hung.ts'
import { missing } from '../containerd/requirements.ts'
import { hawserFiles } from './hawser-daemon.ts'

const RUN_MS = 300_000
const files = hawserFiles('xdp')
afterAll(() => files.remove())

test.concurrent(
  'a hung daemon: ADD gives up in time, DEL succeeds, STATUS says so',
  async () => {
    const { cases } = await conformance({ ...files.options, only: '*hung*' })
    expect(cases.map(({ id, verdict }) => [id, verdict])).toEqual([
      ['14-hung-add', 'passed'],
      ['16-hung-del', 'passed'],
      ['19-hung-status', 'passed'],
    ])
  },
  RUN_MS,
)

test
  .skipIf(missing() !== undefined)
  .concurrent(
    'a hung daemon behind containerd: a pod fails in time, another stops, and all heals',
    hungBehindContainerd,
    RUN_MS,
  )
