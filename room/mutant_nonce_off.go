//go:build !mutant_nonce

package room

// nonceGuard: a sealer refuses a counter that it has used.
const nonceGuard = true

// nextCounter is the frame counter after c. Every counter that is handed to a
// sealer comes from here.
func nextCounter(c uint32) uint32 { return c + 1 }
