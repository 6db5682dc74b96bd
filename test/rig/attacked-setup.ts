import { beforeEach, inject } from 'vitest'
import { needs } from './services.js'

// Without PostgreSQL one test of each file says so, and the others do not run.

if (inject('database') === null) {
  needs('PostgreSQL', null, () => {})
  const reason = 'PostgreSQL is neither running nor installed'
  beforeEach(({ skip, task }) => {
    if (task.name !== reason) skip(reason)
  })
}
