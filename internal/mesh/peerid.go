package mesh

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
)

// peerIDPrefix is what stands before the 32-byte public key in the binary
// peer id of an Ed25519 key: identity multihash of 36 bytes (00 24), then the
// libp2p PublicKey protobuf (type 1 = Ed25519: 08 01; 32 bytes of data: 12 20).
// Source: libp2p specs, peer-ids.
var peerIDPrefix = []byte{0x00, 0x24, 0x08, 0x01, 0x12, 0x20}

// PeerIDLen is the length of a binary Ed25519 peer id.
const PeerIDLen = 6 + ed25519.PublicKeySize

// PeerID is the binary libp2p peer id of an Ed25519 host key, 38 bytes that
// contain the public key. Teahouse nodes have no other kind of key.
type PeerID string

// PeerIDOf gives the peer id of an Ed25519 public key.
func PeerIDOf(key ed25519.PublicKey) PeerID {
	return PeerID(append(bytes.Clone(peerIDPrefix), key...))
}

// ParsePeerID checks that b is an Ed25519 peer id.
func ParsePeerID(b []byte) (PeerID, error) {
	if len(b) != PeerIDLen || !bytes.HasPrefix(b, peerIDPrefix) {
		return "", errors.New("peer id is not that of an Ed25519 key")
	}
	return PeerID(b), nil
}

// PublicKey is the host key within p; ok is false if p is no Ed25519 peer id.
func (p PeerID) PublicKey() (key ed25519.PublicKey, ok bool) {
	if len(p) != PeerIDLen || string(p[:6]) != string(peerIDPrefix) {
		return nil, false
	}
	return ed25519.PublicKey(p[6:]), true
}

// Verify checks an Ed25519ctx signature made by [Network.SignAsHost].
func (p PeerID) Verify(context string, message, signature []byte) bool {
	key, ok := p.PublicKey()
	return ok && ed25519.VerifyWithOptions(key, message, signature,
		&ed25519.Options{Hash: crypto.Hash(0), Context: context}) == nil
}

// Short is enough of p for a log line.
func (p PeerID) Short() string {
	key, ok := p.PublicKey()
	if !ok {
		return "?"
	}
	return fmt.Sprintf("%x", []byte(key[:4]))
}

// String is Short, so that a peer id formatted by accident says little.
func (p PeerID) String() string { return p.Short() }
