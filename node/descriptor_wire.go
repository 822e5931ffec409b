package node

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"
	"time"
	"unicode"

	"teahouse/internal/mesh"
)

// The bytes of a descriptor (docs/protocol.md section 7): integers big-endian,
// L is a u16 length before, K a u8 count before.
//
//	u8 1 | root key 32 | u64 revision | u64 issued | u64 expiry | secret 32 | L(name)
//	K(bootstrap) | K(relay) | K(revoked key 32) | L(policy) | L(rest) | signature 64
//	bootstrap = key 32 | K(address)
//	relay     = u64 expiry | key 32 | K(address)
//	address   = u8 kind | K(byte)

const descriptorVersion = 1

// LinkPrefix begins the link of a network.
const LinkPrefix = "teahouse:net/"

// MaxLinkText bounds what [ParseLink] is given, bytes: a link that somebody has
// wrapped, and comments around it.
const MaxLinkText = 64 << 10

func (d *Descriptor) body() []byte {
	b := []byte{descriptorVersion}
	b = append(b, d.Root...)
	b = binary.BigEndian.AppendUint64(b, d.Revision)
	b = binary.BigEndian.AppendUint64(b, uint64(d.Issued.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(d.Expires.Unix()))
	b = append(b, d.Secret[:]...)
	b = appendL(b, []byte(d.Name))
	b = append(b, byte(len(d.Bootstraps)))
	for _, n := range d.Bootstraps {
		b = n.append(b)
	}
	b = append(b, byte(len(d.Relays)))
	for _, r := range d.Relays {
		b = binary.BigEndian.AppendUint64(b, uint64(r.Expires.Unix()))
		b = r.append(b)
	}
	b = append(b, byte(len(d.Revoked)))
	for _, p := range d.Revoked {
		b = append(b, keyOfPeer(p)...)
	}
	b = appendL(b, []byte(d.Policy))
	return appendL(b, d.rest)
}

func (n NamedNode) append(b []byte) []byte {
	b = append(b, keyOfPeer(n.Peer)...)
	b = append(b, byte(len(n.Addrs)))
	for _, e := range n.Addrs {
		b = append(b, byte(e.Kind), byte(len(e.Value)))
		b = append(b, e.Value...)
	}
	return b
}

// keyOfPeer is the host key in a peer id that was checked.
func keyOfPeer(p mesh.PeerID) []byte {
	key, _ := p.PublicKey()
	return key
}

// ParseDescriptor reads a document and checks its rules and its signature, not
// whether it has expired. Its errors are ErrMalformed and ErrForged.
func ParseDescriptor(document []byte) (*Descriptor, error) {
	if len(document) > MaxDescriptor {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrMalformed, MaxDescriptor)
	}
	if len(document) < 1+ed25519.SignatureSize || document[0] != descriptorVersion {
		return nil, fmt.Errorf("%w, or one of a later version", ErrMalformed)
	}
	document = bytes.Clone(document)
	body, sig := document[:len(document)-ed25519.SignatureSize], document[len(document)-ed25519.SignatureSize:]
	r := memoryReader{b: body[1:]}
	d := &Descriptor{Root: bytes.Clone(r.take(ed25519.PublicKeySize)), signed: document}
	d.Revision = binary.BigEndian.Uint64(r.take(8))
	d.Issued, d.Expires = r.time(), r.time()
	copy(d.Secret[:], r.take(32))
	d.Name = string(r.takeL(maxNetworkName))
	for range r.count(MaxBootstraps) {
		d.Bootstraps = append(d.Bootstraps, r.node())
	}
	for range r.count(MaxRelays) {
		expires := r.time()
		d.Relays = append(d.Relays, RelayTicket{r.node(), expires})
	}
	for range r.count(MaxRevoked) {
		d.Revoked = append(d.Revoked, mesh.PeerIDOf(r.take(ed25519.PublicKeySize)))
	}
	d.Policy = string(r.takeL(MaxPolicy))
	d.rest = bytes.Clone(r.takeL(maxRest))
	if r.bad || len(r.b) != 0 {
		return nil, fmt.Errorf("%w: cut off, or too long", ErrMalformed)
	}
	if err := d.check(); err != nil {
		return nil, err
	}
	if ed25519.VerifyWithOptions(d.Root, body, sig, &ed25519.Options{Hash: crypto.Hash(0), Context: descriptorContext}) != nil {
		return nil, ErrForged
	}
	return d, nil
}

// time takes Unix seconds; what is out of range is bad.
func (r *memoryReader) time() time.Time {
	t := binary.BigEndian.Uint64(r.take(8))
	if t >= maxUnixTime {
		r.bad = true
		return time.Time{}
	}
	return time.Unix(int64(t), 0)
}

// count takes how many of something follow; more than most is bad, and none.
func (r *memoryReader) count(most int) int {
	n := int(r.take(1)[0])
	if n > most {
		r.bad = true
	}
	if r.bad {
		return 0
	}
	return n
}

func (r *memoryReader) node() NamedNode {
	n := NamedNode{Peer: mesh.PeerIDOf(r.take(ed25519.PublicKeySize))}
	for range r.count(maxNodeAddrs) {
		kind := EndpointKind(r.take(1)[0])
		n.Addrs = append(n.Addrs, Endpoint{kind, string(r.take(r.count(maxAddrLen)))})
	}
	return n
}

// Document is the descriptor as it was signed; nil if it was not.
func (d *Descriptor) Document() []byte { return bytes.Clone(d.signed) }

// Link is the descriptor as a link. It bears the network secret.
func (d *Descriptor) Link() string { return LinkPrefix + lowerBase32.EncodeToString(d.signed) }

// ParseLink reads a link, or a file with one: in any case, with white space
// anywhere, beside lines that begin with #.
func ParseLink(text string) (*Descriptor, error) {
	if len(text) > MaxLinkText {
		return nil, fmt.Errorf("%w: the link is too long", ErrMalformed)
	}
	var link strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(strings.TrimSpace(line), "#") {
			link.WriteString(strings.Join(strings.FieldsFunc(line, unicode.IsSpace), ""))
		}
	}
	encoded, ok := strings.CutPrefix(strings.ToLower(link.String()), LinkPrefix)
	if !ok {
		return nil, fmt.Errorf("%w: a link begins with %s", ErrMalformed, LinkPrefix)
	}
	if len(encoded) > base32.StdEncoding.WithPadding(base32.NoPadding).EncodedLen(MaxDescriptor) {
		return nil, fmt.Errorf("%w: the link is too long", ErrMalformed)
	}
	document, err := lowerBase32.DecodeString(encoded)
	if err != nil {
		return nil, fmt.Errorf("%w: the link is damaged", ErrMalformed)
	}
	return ParseDescriptor(document)
}
