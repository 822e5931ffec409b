package node

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/security/noise"

	"teahouse/internal/mesh"
)

// The handshake of a session, docs/protocol.md section 3:
//
//	I                                   R
//	random | tag            ------>     tries its doors; resets where none fits
//	Noise XX, prologue door | tag       (three messages)
//	HELLO                   <----->     HELLO
//
// Both ends run under one deadline.

// streamConn makes a libp2p stream the net.Conn that Noise wants.
type streamConn struct{ network.Stream }

type streamAddr struct{}

func (streamAddr) Network() string { return "libp2p-stream" }
func (streamAddr) String() string  { return "stream" }

func (streamConn) LocalAddr() net.Addr  { return streamAddr{} }
func (streamConn) RemoteAddr() net.Addr { return streamAddr{} }

// agreed is what a finished handshake gives.
type agreed struct {
	conn    net.Conn // Noise over the stream
	binding [32]byte
	mine    hello
	theirs  hello
	// keys of packets from the initiator and from the responder.
	keyI, keyR [32]byte
}

// initiate runs the initiator's side on a fresh stream. mine has its receiver
// index and features set.
func (n *Node) initiate(ctx context.Context, st network.Stream, to peer.ID, door mesh.Door, mine hello) (agreed, error) {
	opening := make([]byte, openingLen)
	rand.Read(opening[:16])
	tag := sessionTag(&door, n.id, mesh.PeerID(to), opening[:16])
	copy(opening[16:], tag[:])
	if _, err := st.Write(opening); err != nil {
		return agreed{}, handshakeError("open", err)
	}
	secure, err := n.secureConn(ctx, streamConn{st}, to, noisePrologue(&door, &tag), true)
	if err != nil {
		return agreed{}, handshakeError("noise", err)
	}
	return exchange(secure, &tag, true, n.id, mesh.PeerID(to), mine)
}

// respond runs the responder's side. find names the door that fits, by its
// tag.
func (n *Node) respond(ctx context.Context, st network.Stream, from peer.ID,
	find func(random []byte, tag *[32]byte) (mesh.Door, bool), mine hello,
) (mesh.Door, agreed, error) {
	opening := make([]byte, openingLen)
	if _, err := io.ReadFull(st, opening); err != nil {
		return mesh.Door{}, agreed{}, handshakeError("open", err)
	}
	tag := [32]byte(opening[16:])
	door, ok := find(opening[:16], &tag)
	if !ok {
		return mesh.Door{}, agreed{}, errNoDoor
	}
	secure, err := n.secureConn(ctx, streamConn{st}, from, noisePrologue(&door, &tag), false)
	if err != nil {
		return mesh.Door{}, agreed{}, handshakeError("noise", err)
	}
	a, err := exchange(secure, &tag, false, mesh.PeerID(from), n.id, mine)
	return door, a, err
}

var errNoDoor = errors.New("no such door")

// secureConn runs libp2p's Noise XX inside a stream.
func (n *Node) secureConn(ctx context.Context, st net.Conn, remote peer.ID, prologue []byte, initiator bool) (net.Conn, error) {
	tr, err := n.noise.WithSessionOptions(noise.Prologue(prologue))
	if err != nil {
		return nil, err
	}
	if initiator {
		return tr.SecureOutbound(ctx, st, remote)
	}
	return tr.SecureInbound(ctx, st, remote)
}

// exchange sends and reads HELLO and derives what follows from both.
func exchange(conn net.Conn, tag *[32]byte, initiator bool, i, r mesh.PeerID, mine hello) (agreed, error) {
	rand.Read(mine.secret[:])
	mine.lowest, mine.highest = version, version
	sent := mine.marshal()
	if _, err := conn.Write(appendL(nil, sent)); err != nil {
		return agreed{}, handshakeError("hello", err)
	}
	got, err := readFrame(conn, maxHelloLen)
	if err != nil {
		return agreed{}, handshakeError("hello", err)
	}
	theirs, err := parseHello(got)
	if err != nil {
		return agreed{}, err
	}
	if _, err := commonVersion(&mine, &theirs); err != nil {
		return agreed{}, err
	}
	a := agreed{conn: conn, mine: mine, theirs: theirs}
	helloI, helloR, secretI, secretR := sent, got, &mine.secret, &theirs.secret
	if !initiator {
		helloI, helloR, secretI, secretR = got, sent, &theirs.secret, &mine.secret
	}
	a.binding = bindingOf(tag, i, r, helloI, helloR)
	a.keyI, a.keyR = hopKeys(secretI, secretR, &a.binding)
	return a, nil
}

// readFrame reads u16 length and bytes, at most limit.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [2]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head[:]))
	if size > limit {
		return nil, errTooLong
	}
	b := make([]byte, size)
	_, err := io.ReadFull(r, b)
	return b, err
}

var errTooLong = errors.New("message over its limit")

// handshakeError tells a refusal (the peer reset the stream and gave no
// reason) from other ends.
func handshakeError(step string, err error) error {
	var reset *network.StreamError
	if errors.As(err, &reset) && reset.Remote && reset.ErrorCode == network.StreamNoError {
		return mesh.ErrRefused
	}
	return fmt.Errorf("session %s: %w", step, err)
}

// underDeadline bounds a handshake on st by ctx and handshakeTimeout. The
// returned stop lifts the deadline again.
func underDeadline(ctx context.Context, st network.Stream) (inner context.Context, stop func()) {
	inner, cancel := context.WithTimeout(ctx, handshakeTimeout)
	deadline, _ := inner.Deadline()
	_ = st.SetDeadline(deadline)
	// A cancelled context must end a blocked read or write at once.
	release := context.AfterFunc(inner, func() { _ = st.SetDeadline(time.Unix(1, 0)) })
	return inner, func() {
		if release() {
			_ = st.SetDeadline(time.Time{})
		}
		cancel()
	}
}
