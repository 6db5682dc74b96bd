import { keptDirectoryContract } from 'passport-jit/testing'
import { describe, test } from 'vitest'
import { onEveryStore } from './stores.js'

onEveryStore((factory) => keptDirectoryContract({ describe, test, factory }))
