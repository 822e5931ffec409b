//go:build mutant_nonce

package room

// This file is wrong on purpose. It exists so that the tests that guard nonces
// are proven able to fail: a build with the tag mutant_nonce uses frame
// counters again and must be caught. Never ship it.

const nonceGuard = false

func nextCounter(c uint32) uint32 { return (c + 1) % 50 }
