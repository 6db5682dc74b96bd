import { parentPort } from 'node:worker_threads'
import { type AnswerJob, type Verdict, verifyAnswer } from './saml-verify.js'

// The worker thread of saml-thread.ts: says that it is ready, then answers jobs by their number.

export interface Asked {
  readonly number: number
  readonly job: AnswerJob
}

export type Told = 'ready' | { readonly number: number; readonly verdict: Verdict }

const tell = (told: Told) => parentPort!.postMessage(told)

parentPort!.on('message', async ({ number, job }: Asked) => {
  tell({ number, verdict: await verifyAnswer(job) })
})
tell('ready')
