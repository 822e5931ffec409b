package node

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"teahouse/internal/mesh"
)

// The stream of a session, after HELLO (docs/protocol.md section 3):
//
//	u16 length | message        length 1 to 32,768
//	u16 0x0000                  a keep-alive
//	u16 0xFFFF | taken u32      how many bytes of messages have been taken here
//
// taken is modulo 2^32, and said each time a quarter of [mesh.MaxUnread] has
// been taken since it was said last.
const (
	takenFrame = 0xFFFF
	takenStep  = mesh.MaxUnread / 4
	// maxUnstarted is how many bytes of messages are kept for Start, so that
	// the reader sees the end of a session that nobody started.
	maxUnstarted = 64 << 10
)

var keepAlive = []byte{0, 0}

// inbox keeps messages until Start, and the callbacks one after another.
type inbox struct {
	mu    sync.Mutex
	early [][]byte
	kept  int // bytes

	taken atomic.Uint32 // bytes of messages handed on, modulo 2^32
	said  atomic.Uint32 // of these the peer has been told; written by the writer
}

// readLoop passes messages on, in order. A callback that blocks stops the
// reading; the silence limit counts only while we wait for the peer.
func (s *session) readLoop() {
	defer close(s.readDone)
	r := bufio.NewReaderSize(s.conn, 4<<10)
	var buf []byte
	for {
		b, err := s.readMessage(r, buf)
		if err != nil {
			s.endOf("read", err)
			return
		}
		buf = b
		if len(b) == 0 {
			continue // a keep-alive, or what the peer has taken
		}
		if !s.isStarted() && s.keep(b) {
			continue
		}
		select {
		case <-s.start:
		case <-s.done:
		}
		s.in.mu.Lock()
		s.passEarly()
		s.pass(b)
		s.in.mu.Unlock()
	}
}

// keep copies a message that came before Start; false if there is no room or
// Start has come.
func (s *session) keep(b []byte) bool {
	s.in.mu.Lock()
	defer s.in.mu.Unlock()
	if s.in.kept+len(b) > maxUnstarted || s.isStarted() {
		return false
	}
	s.in.early = append(s.in.early, bytes.Clone(b))
	s.in.kept += len(b)
	return true
}

// passEarly hands on what came before Start. in.mu must be held.
func (s *session) passEarly() {
	for _, m := range s.in.early {
		s.pass(m)
	}
	s.in.early, s.in.kept = nil, 0
}

func (s *session) isStarted() bool {
	select {
	case <-s.start:
		return true
	default:
		return false
	}
}

// pass hands a message on. After the end nobody wants it, but the end of the
// stream is still awaited.
func (s *session) pass(m []byte) {
	n := uint32(len(m)) // the callback may do with m what it likes
	select {
	case <-s.done:
	default:
		s.message(m)
	}
	if s.in.taken.Add(n)-s.in.said.Load() >= takenStep {
		s.queue.wake() // the writer says so
	}
}

// readMessage reads one message, into buf if it is large enough; an empty one
// is for the session itself.
func (s *session) readMessage(r io.Reader, buf []byte) ([]byte, error) {
	s.life.wait(time.Now())
	defer s.life.busy()
	var head [6]byte
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head[:]))
	if size == takenFrame {
		if _, err := io.ReadFull(r, head[2:]); err != nil {
			return nil, err
		}
		err := s.queue.took(binary.BigEndian.Uint32(head[2:]))
		if err != nil {
			s.node.Penalise(s.Peer(), err.Error())
		}
		return buf[:0], err
	}
	if size > mesh.MaxMessage {
		s.node.Penalise(s.Peer(), "message over its limit")
		return nil, errTooLong
	}
	if cap(buf) < size {
		buf = make([]byte, size, max(size, 512))
	}
	_, err := io.ReadFull(r, buf[:size])
	return buf[:size], err
}

// endOf ends the session for what reading or writing its stream said.
func (s *session) endOf(doing string, err error) {
	var reset *network.StreamError
	if errors.Is(err, io.EOF) || errors.As(err, &reset) && reset.Remote {
		s.end(errRemote, retireFor, false) // closed or retired, we cannot tell
		return
	}
	if now := time.Now(); isTimeout(err) {
		s.node.pings.distrust(s.stream.Conn(), now.Add(-deadAfter), now)
	}
	s.end(fmt.Errorf("session broken: %s: %w", doing, err), lingerFor, false)
}

// writeLoop writes what waits, most urgent first, what has been taken, and a
// keep-alive when there was nothing to write for a while.
func (s *session) writeLoop() {
	defer close(s.flushed)
	idle := time.NewTimer(keepAliveEvery)
	defer idle.Stop()
	for {
		m := s.nextTaken()
		if m == nil {
			m = s.queue.pop()
		}
		if m == nil && s.queue.takeNudge() {
			m = keepAlive
		}
		if m != nil {
			if !s.write(m) {
				return
			}
			idle.Reset(keepAliveEvery)
			continue
		}
		select {
		case <-s.queue.ready:
		case <-idle.C:
			if !s.write(keepAlive) {
				return
			}
			idle.Reset(keepAliveEvery)
		case <-s.done:
			s.finish()
			return
		case <-s.ctx.Done():
			_ = s.stream.Reset()
			return
		}
	}
}

// nextTaken is the frame that says what has been taken, or nil if little has.
func (s *session) nextTaken() []byte {
	taken := s.in.taken.Load()
	if taken-s.in.said.Load() < takenStep {
		return nil
	}
	s.in.said.Store(taken)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(nil, takenFrame), taken)
}

func (s *session) write(m []byte) bool {
	_ = s.conn.SetWriteDeadline(time.Now().Add(deadAfter))
	if _, err := s.conn.Write(m); err != nil {
		s.endOf("write", err)
		_ = s.stream.Reset()
		return false
	}
	return true
}

// finish closes the stream: after a graceful end what waits is written first.
func (s *session) finish() {
	s.mu.Lock()
	graceful := s.graceful
	s.mu.Unlock()
	if !graceful {
		_ = s.stream.Reset()
		return
	}
	_ = s.conn.SetWriteDeadline(time.Now().Add(flushFor))
	for m := s.queue.pop(); m != nil; m = s.queue.pop() {
		if _, err := s.conn.Write(m); err != nil {
			_ = s.stream.Reset()
			return
		}
	}
	// The other side answers an end with its own; until then closing the
	// connection could throw away what it has not read yet.
	if s.stream.CloseWrite() == nil {
		wait := time.NewTimer(flushFor)
		defer wait.Stop()
		select {
		case <-s.readDone:
		case <-wait.C:
		case <-s.node.ctx.Done():
		}
	}
	_ = s.stream.Reset()
}
