import { setPriority } from 'node:os'
import { parentPort } from 'node:worker_threads'
import { type AnswerJob, type Verdict, verifyAnswer } from './saml-verify.js'

// The worker thread of saml-thread.ts: says that it is ready, then answers jobs by their number.

export interface Asked {
  readonly number: number
  readonly job: AnswerJob
}

export type Told = 'ready' | { readonly number: number; readonly verdict: Verdict }

// Where there are too few cores for all, the event loop goes first. Linux alone gives a thread a priority of its own;
// elsewhere this would be the whole process.
if (process.platform === 'linux') {
  try {
    setPriority(10)
  } catch {
    // A sandbox that forbids even this takes nothing but the advantage.
  }
}

const tell = (told: Told) => parentPort!.postMessage(told)

parentPort!.on('message', async ({ number, job }: Asked) => {
  tell({ number, verdict: await verifyAnswer(job) })
})
tell('ready')
