package room

import (
	"bytes"
	"crypto/ed25519"
	"crypto/subtle"

	"teahouse/internal/mesh"
)

// Kinds of messages of a session: its first byte, docs/protocol.md section 5.
// Unknown kinds are dropped and counted; bytes after a known body are ignored,
// so that later versions may append.
const (
	kindProof = 1 // role u8 ‖ member key 32 ‖ signature 64
	kindEntry = 2 // entry.go
	kindEpoch = 3 // number u32 ‖ secret 32 ‖ origin
	kindAdmit = 4 // number u32 ‖ origin commitment 32 ‖ entry of the newcomer
	kindKnown = 5 // number u32 ‖ origin number u32 ‖ removals u16 ‖ origin commitment 32 ‖ epoch id 16 ‖ flags u8
	kindPeers = 6 // u8 n ‖ n × (L(peer id) ‖ u8 m ‖ m × L(address))
)

// splitMessage gives a message's kind and body; ok is false if it is empty.
func splitMessage(data []byte) (kind uint8, body []byte, ok bool) {
	if len(data) == 0 {
		return 0, nil, false
	}
	return data[0], data[1:], true
}

// Roles within a session, as PROOF says them.
const (
	roleInitiator = 1
	roleResponder = 2
)

// proof shows that whoever is at this end of the session holds a member key.
type proof struct {
	Role   uint8
	Member Member
	Sig    signature // over room id ‖ role ‖ binding
}

// newProof makes the proof for our end of a session.
func newProof(room ID, role uint8, binding [32]byte, key ed25519.PrivateKey) proof {
	return proof{role, memberOf(key), sign(key, contextProof, proofBody(room, role, binding))}
}

// verify checks that p is for the far end, which has role, of the session.
func (p *proof) verify(room ID, role uint8, binding [32]byte) error {
	if p.Role != role || !verify((*[32]byte)(&p.Member), contextProof, proofBody(room, role, binding), &p.Sig) {
		return errSignature
	}
	return nil
}

func proofBody(room ID, role uint8, binding [32]byte) []byte {
	return append(append(room[:len(room):len(room)], role), binding[:]...)
}

// appendMessage appends the message, kind byte included, as all appendMessage do.
func (p *proof) appendMessage(dst []byte) []byte {
	dst = append(dst, kindProof, p.Role)
	dst = append(dst, p.Member[:]...)
	return append(dst, p.Sig[:]...)
}

// decodeProof reads the body of a PROOF. It does not verify.
func decodeProof(body []byte) (p proof, err error) {
	r := reader{b: body}
	p.Role = r.u8()
	r.into(p.Member[:])
	r.into(p.Sig[:])
	if r.bad || p.Role != roleInitiator && p.Role != roleResponder {
		return proof{}, errMalformed
	}
	return p, nil
}

// origin is what the author of a fresh epoch signed about it: its secret by
// commitment, and what decides in a conflict.
type origin struct {
	Number     uint32
	Removals   uint16
	Parent     commitment // of the origin before, zeros for none
	Commitment commitment
	Heads      [32]byte // of the op log; zeros while rooms are open
	Author     Member
	Sig        signature // over room id ‖ all of the above
}

// newOrigin makes and signs the origin of a fresh epoch of an open room, in
// which nobody is ever removed.
func newOrigin(room ID, number uint32, parent commitment, fresh *epochSecret, key ed25519.PrivateKey) origin {
	o := origin{Number: number, Parent: parent, Commitment: fresh.commitment(room, number), Author: memberOf(key)}
	o.Sig = sign(key, contextEpoch, o.appendSigned(room[:len(room):len(room)]))
	return o
}

// verify checks the signature of the author.
func (o *origin) verify(room ID) error {
	if !verify((*[32]byte)(&o.Author), contextEpoch, o.appendSigned(room[:len(room):len(room)]), &o.Sig) {
		return errSignature
	}
	return nil
}

// beats tells whether o wins a conflict with p: more removals, then the higher
// number, then the lower commitment. Numbers are compared modulo 2^32
// (RFC 1982), so that no number is the last one, which a single member could
// otherwise claim and so end the life of a room.
func (o *origin) beats(p *origin) bool {
	if o.Removals != p.Removals {
		return o.Removals > p.Removals
	}
	if ahead := o.Number - p.Number; ahead != 0 && ahead != 1<<31 {
		return ahead < 1<<31
	}
	return bytes.Compare(o.Commitment[:], p.Commitment[:]) < 0
}

func (o *origin) appendSigned(dst []byte) []byte {
	dst = be.AppendUint32(dst, o.Number)
	dst = be.AppendUint16(dst, o.Removals)
	dst = append(dst, o.Parent[:]...)
	dst = append(dst, o.Commitment[:]...)
	dst = append(dst, o.Heads[:]...)
	return append(dst, o.Author[:]...)
}

func (o *origin) append(dst []byte) []byte { return append(o.appendSigned(dst), o.Sig[:]...) }

func (r *reader) origin() (o origin) {
	o.Number = r.u32()
	o.Removals = r.u16()
	r.into(o.Parent[:])
	r.into(o.Commitment[:])
	r.into(o.Heads[:])
	r.into(o.Author[:])
	r.into(o.Sig[:])
	return o
}

// epochMessage hands an epoch to a member: EPOCH.
type epochMessage struct {
	Number uint32
	Secret epochSecret
	Origin origin
}

// verify checks the origin's signature, that Number is at most 1,024 ratchets
// after it, and, where it is none, that Secret is what the origin committed
// to. A secret that was ratcheted cannot be checked by who did not hold the
// fresh one; KNOWN's epoch id shows whether others hold the same.
func (m *epochMessage) verify(room ID) error {
	steps := m.Number - m.Origin.Number
	if steps > maxRatchets {
		return errMalformed
	}
	if c := m.Secret.commitment(room, m.Number); steps == 0 && subtle.ConstantTimeCompare(c[:], m.Origin.Commitment[:]) != 1 {
		return errMalformed
	}
	return m.Origin.verify(room)
}

func (m *epochMessage) appendMessage(dst []byte) []byte {
	dst = append(dst, kindEpoch)
	dst = be.AppendUint32(dst, m.Number)
	dst = append(dst, m.Secret[:]...)
	return m.Origin.append(dst)
}

// decodeEpoch reads the body of an EPOCH. It does not verify.
func decodeEpoch(body []byte) (m epochMessage, err error) {
	r := reader{b: body}
	m.Number = r.u32()
	r.into(m.Secret[:])
	m.Origin = r.origin()
	if r.bad {
		return epochMessage{}, errMalformed
	}
	return m, nil
}

// admitMessage tells that a newcomer was let in: ADMIT.
type admitMessage struct {
	Number     uint32
	Commitment commitment // of the origin that Number counts from
	Entry      entry      // of the newcomer
}

func (m *admitMessage) appendMessage(dst []byte) []byte {
	dst = append(dst, kindAdmit)
	dst = be.AppendUint32(dst, m.Number)
	dst = append(dst, m.Commitment[:]...)
	return m.Entry.append(dst)
}

// decodeAdmit reads the body of an ADMIT. It does not verify the entry.
func decodeAdmit(body []byte) (m admitMessage, err error) {
	r := reader{b: body}
	m.Number = r.u32()
	r.into(m.Commitment[:])
	if r.bad {
		return admitMessage{}, errMalformed
	}
	if m.Entry, _, err = decodeEntry(r.b); err != nil {
		return admitMessage{}, err
	}
	return m, nil
}

// knownMessage tells which epoch its sender holds: KNOWN; all zeros for none.
type knownMessage struct {
	Number uint32
	// OriginNumber, Removals and Commitment are its origin's: what decides a
	// conflict. Nobody signed them here, so they are believed only as a wish:
	// who claims to lose is admitted as anyone is, who claims to win has to
	// show it by EPOCH.
	OriginNumber uint32
	Removals     uint16
	Commitment   commitment
	// Epoch names the secret. Two members with the same Number and Commitment
	// but not the same Epoch have been lied to by whoever let one of them in.
	Epoch epochID
	Flags uint8 // bits that are not known here are kept and ignored
}

// knownStale is the flag of KNOWN that says: somebody who may hold a secret of
// this origin has gone, so that the next change has to be a fresh epoch.
const knownStale = 1

// stale tells whether the sender knows of a departure from the origin it names.
func (m *knownMessage) stale() bool { return m.Flags&knownStale != 0 }

// origin is the part of the origin that m tells of, for origin.beats.
func (m *knownMessage) origin() origin {
	return origin{Number: m.OriginNumber, Removals: m.Removals, Commitment: m.Commitment}
}

func (m *knownMessage) appendMessage(dst []byte) []byte {
	dst = append(dst, kindKnown)
	dst = be.AppendUint32(dst, m.Number)
	dst = be.AppendUint32(dst, m.OriginNumber)
	dst = be.AppendUint16(dst, m.Removals)
	dst = append(dst, m.Commitment[:]...)
	dst = append(dst, m.Epoch[:]...)
	return append(dst, m.Flags)
}

// decodeKnown reads the body of a KNOWN.
func decodeKnown(body []byte) (m knownMessage, err error) {
	r := reader{b: body}
	m.Number = r.u32()
	m.OriginNumber = r.u32()
	m.Removals = r.u16()
	r.into(m.Commitment[:])
	r.into(m.Epoch[:])
	m.Flags = r.u8()
	if r.bad {
		return knownMessage{}, errMalformed
	}
	return m, nil
}

// Limits of PEERS.
const (
	maxPeers     = 16
	maxPeerAddrs = 8
)

// appendPeersMessage appends a PEERS message that names the first 16 of peers,
// each with at most 8 addresses.
func appendPeersMessage(dst []byte, peers []mesh.Peer) []byte {
	start := len(dst)
	peers = peers[:min(len(peers), maxPeers)]
	dst = append(dst, kindPeers, uint8(len(peers)))
	for _, p := range peers {
		dst = appendLP(dst, string(p.ID))
		dst = appendAddrs(dst, p.Addrs, maxPeerAddrs, start+mesh.MaxMessage)
	}
	return dst
}

// decodePeers reads the body of a PEERS.
func decodePeers(body []byte) ([]mesh.Peer, error) {
	r := reader{b: body}
	n := int(r.u8())
	if r.bad || n > maxPeers {
		return nil, errMalformed
	}
	peers := make([]mesh.Peer, 0, n)
	for range n {
		id, err := mesh.ParsePeerID(r.lp(mesh.PeerIDLen, mesh.PeerIDLen))
		addrs := r.addrs(maxPeerAddrs)
		if err != nil || r.bad {
			return nil, errMalformed
		}
		peers = append(peers, mesh.Peer{ID: id, Addrs: addrs})
	}
	return peers, nil
}
