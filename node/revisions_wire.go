package node

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/libp2p/go-libp2p/core/peer"

	"teahouse/internal/seal"
)

// The messages by which two nodes compare descriptors (docs/protocol.md section
// 7): u16 length | nonce 24 | XChaCha20-Poly1305(key of the network, body, AD =
// sender's peer id | receiver's peer id), where body is
//
//	O to R   u8 1 | u64 revision
//	R to O   u8 2 | u64 revision [ | document, if O's is lower ]
//	O to R   u8 3 | u64 revision | document, if R's is lower
//
// So who does not know the network secret learns nothing, not even which
// revision there is, and no message can be used again by somebody else.

const (
	revisionHead    = 1 + 8
	maxRevisionBody = revisionHead + MaxDescriptor // bytes of a body
)

// errRevisionRules: what came keeps not to the protocol.
var errRevisionRules = errors.New("against the rules")

// writeRevision sends one message. document may be nil.
func (r *revisions) writeRevision(w io.Writer, kind byte, revision uint64, document []byte, from, to peer.ID) error {
	body := binary.BigEndian.AppendUint64([]byte{kind}, revision)
	body = append(body, document...)
	length := seal.NonceSizeX + len(body) + seal.Overhead
	out := make([]byte, 2+seal.NonceSizeX, 2+length)
	binary.BigEndian.PutUint16(out, uint16(length))
	nonce := out[2:]
	_, _ = rand.Read(nonce) // never fails, since Go 1.24
	_, err := w.Write(r.key.Seal(out, nonce, body, revisionAD(from, to)))
	return err
}

// readRevision reads one message of a kind.
func (r *revisions) readRevision(rd io.Reader, kind byte, from, to peer.ID) (revision uint64, document []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(rd, head[:]); err != nil {
		return 0, nil, err
	}
	length := int(binary.BigEndian.Uint16(head[:]))
	if length < seal.NonceSizeX+revisionHead+seal.Overhead || length > seal.NonceSizeX+maxRevisionBody+seal.Overhead {
		return 0, nil, fmt.Errorf("%w: a message of %d bytes", errRevisionRules, length)
	}
	sealed := make([]byte, length)
	if _, err := io.ReadFull(rd, sealed); err != nil {
		return 0, nil, err
	}
	body, err := r.key.Open(nil, sealed[:seal.NonceSizeX], sealed[seal.NonceSizeX:], revisionAD(from, to))
	if err != nil {
		return 0, nil, fmt.Errorf("%w: not of a member of the network", errRevisionRules)
	}
	if body[0] != kind {
		return 0, nil, fmt.Errorf("%w: a message of kind %d", errRevisionRules, body[0])
	}
	return binary.BigEndian.Uint64(body[1:]), body[revisionHead:], nil
}

// revisionAD binds a message to its two ends: peer ids of 38 bytes each.
func revisionAD(from, to peer.ID) []byte { return append([]byte(from), to...) }

// compareRevision is the side that opened the stream, O.
func (n *Node) compareRevision(rw io.ReadWriter, p peer.ID) error {
	r, self, mine := n.revisions, n.host.ID(), n.Descriptor()
	if err := r.writeRevision(rw, 1, mine.Revision, nil, self, p); err != nil {
		return fmt.Errorf("say the revision: %w", err)
	}
	theirs, document, err := r.readRevision(rw, 2, p, self)
	switch {
	case err != nil:
		return fmt.Errorf("revision of the peer: %w", err)
	case theirs > mine.Revision:
		return n.takeRevision(theirs, document)
	case len(document) > 0:
		return fmt.Errorf("%w: an older descriptor", errRevisionRules)
	case theirs == mine.Revision:
		return nil
	}
	return r.writeRevision(rw, 3, mine.Revision, mine.Document(), self, p)
}

// answerRevision is the other side, R.
func (n *Node) answerRevision(rw io.ReadWriter, p peer.ID) error {
	r, self, mine := n.revisions, n.host.ID(), n.Descriptor()
	theirs, rest, err := r.readRevision(rw, 1, p, self)
	if err != nil {
		return fmt.Errorf("revision of the peer: %w", err)
	}
	if len(rest) > 0 {
		return fmt.Errorf("%w: bytes too many", errRevisionRules)
	}
	var document []byte
	if theirs < mine.Revision {
		document = mine.Document()
	}
	if err := r.writeRevision(rw, 2, mine.Revision, document, self, p); err != nil {
		return fmt.Errorf("say the revision: %w", err)
	}
	if theirs <= mine.Revision {
		return nil
	}
	said, document, err := r.readRevision(rw, 3, p, self)
	if err != nil {
		return fmt.Errorf("descriptor of the peer: %w", err)
	}
	if said < theirs {
		return fmt.Errorf("%w: revision %d, and %d was said", errRevisionRules, said, theirs)
	}
	return n.takeRevision(said, document)
}

// takeRevision uses a document that a peer calls a revision newer than ours.
func (n *Node) takeRevision(said uint64, document []byte) error {
	d, err := ParseDescriptor(document)
	if err != nil {
		return err
	}
	if d.Revision != said {
		return fmt.Errorf("%w: revision %d, and %d was said", errRevisionRules, d.Revision, said)
	}
	err = n.adopt(d, n.revisions.keep)
	if errors.Is(err, ErrRolledBack) {
		return nil // a still newer one has come meanwhile
	}
	return err
}
