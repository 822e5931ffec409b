package room

import (
	"crypto"
	"crypto/ed25519"
)

// Contexts of Ed25519ctx (RFC 8032 section 5.1), one for each kind of thing
// that is signed. With the room id first in every signed body, a signature of
// one kind or room never passes for another.
const (
	contextProof     = "teahouse/proof/1"
	contextEntry     = "teahouse/entry/1"
	contextEntryHost = "teahouse/entry-host/1"
	contextEpoch     = "teahouse/epoch/1"
	contextBundle    = "teahouse/bundle/1"
)

// signature is an Ed25519 signature.
type signature [ed25519.SignatureSize]byte

// sign signs body, which begins with the room id, as a thing of one context.
func sign(key ed25519.PrivateKey, context string, body []byte) (s signature) {
	b, err := key.Sign(nil, body, &ed25519.Options{Hash: crypto.Hash(0), Context: context})
	if err != nil {
		panic(err) // a context over 255 bytes alone is an error, and ours are constants
	}
	return signature(b)
}

// verify checks what sign made.
func verify(key *[ed25519.PublicKeySize]byte, context string, body []byte, s *signature) bool {
	return ed25519.VerifyWithOptions(key[:], body, s[:],
		&ed25519.Options{Hash: crypto.Hash(0), Context: context}) == nil
}

// memberOf is the public half of a member key.
func memberOf(key ed25519.PrivateKey) Member {
	return Member(key.Public().(ed25519.PublicKey))
}
