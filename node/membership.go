package node

import (
	"crypto/hmac"
	"crypto/sha256"

	"teahouse/internal/mesh"
)

// MembershipProof shows verifier that prover holds the network secret: an HMAC
// over both peer ids and a challenge (docs/protocol.md section 7). The verifier
// makes the challenge at random, for one use, and names itself: what it is told
// proves nothing to others, nor of others. On [LAN] it proves nothing at all.
func (n Network) MembershipProof(prover, verifier mesh.PeerID, challenge [32]byte) [32]byte {
	m := hmac.New(sha256.New, expand(n.Secret[:], "teahouse membership 1", 32))
	m.Write([]byte(prover)) // both have one length: mesh.PeerIDLen
	m.Write([]byte(verifier))
	m.Write(challenge[:])
	return [32]byte(m.Sum(nil))
}

// VerifyMembership tells whether a proof is that of prover, in constant time.
func (n Network) VerifyMembership(prover, verifier mesh.PeerID, challenge, proof [32]byte) bool {
	if len(prover) != mesh.PeerIDLen || len(verifier) != mesh.PeerIDLen {
		return false
	}
	want := n.MembershipProof(prover, verifier, challenge)
	return hmac.Equal(proof[:], want[:])
}
