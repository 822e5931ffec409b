package node

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	msmux "github.com/multiformats/go-multistream"

	"teahouse/internal/mesh"
)

// Which voice streams a session has: the initiator opens them, with back-off,
// and closes those that nobody needs; the responder takes what comes. What one
// of them does is voicestream.go.
const (
	// reopenMin and reopenMax bound the back-off between streams.
	reopenMin = 200 * time.Millisecond
	reopenMax = 5 * time.Second
	// settled is how long a stream must have lived to end the back-off.
	settled = 5 * time.Second
	// mostStreams is how many a session has: a peer that opens more gets the
	// newest.
	mostStreams = 2
)

// streams are the voice streams of one session.
type streams struct {
	mu      sync.Mutex
	live    []*voiceStream
	opening bool
	after   time.Time // not before
	delay   time.Duration
	closed  bool
}

// add takes v in; ok is false when the session has ended. surplus is what must
// end instead.
func (t *streams) add(v *voiceStream) (surplus []*voiceStream, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, false
	}
	t.live = append(t.live, v)
	return slices.Clone(t.live[:max(len(t.live)-mostStreams, 0)]), true
}

// remove takes v, which has ended, out.
func (t *streams) remove(v *voiceStream) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i := slices.Index(t.live, v); i >= 0 {
		t.live = append(t.live[:i:i], t.live[i+1:]...) // others read what was
	}
	if time.Since(v.born) >= settled {
		t.delay, t.after = 0, time.Time{}
	}
}

// liveStream is the newest stream of a kind over a connection that may still
// be used.
func (s *session) liveStream(kind carrierSet, c network.Conn) *voiceStream {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	for _, v := range slices.Backward(s.streams.live) {
		if v.kind == kind && (v.conn == c || !v.conn.IsClosed()) {
			return v
		}
	}
	return nil
}

// mayStream asks the gater whether packets may go where c does.
func (s *session) mayStream(c network.Conn) bool {
	return s.node.gate.judgeConn(c) == nil
}

// forbidStreams ends the streams over c, with what waits in their rings: the
// gater has come to refuse where they go.
func (s *session) forbidStreams(c network.Conn) {
	s.streams.mu.Lock()
	live := slices.Clone(s.streams.live)
	s.streams.mu.Unlock()
	for _, v := range live {
		if v.conn == c {
			v.fail(errForbidden)
		}
	}
}

// idleStreams closes streams that have been neither chosen nor the one that
// stands by for a while. The responder leaves that to the initiator, who opened
// them.
func (s *session) idleStreams(w *way, standby *voiceStream, now time.Time) {
	if !s.initiator {
		return
	}
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	for _, v := range s.streams.live {
		if w != nil && w.stream == v || standby == v {
			v.chosen.Store(now.UnixNano())
		} else if now.UnixNano()-v.chosen.Load() > int64(idleStreams) {
			s.node.goTracked(func() { v.fail(mesh.ErrClosed) })
		}
	}
}

// dropStreams ends all of them.
func (s *session) dropStreams() {
	s.streams.mu.Lock()
	s.streams.closed = true
	live := s.streams.live
	s.streams.live = nil
	s.streams.mu.Unlock()
	for _, v := range live {
		v.fail(mesh.ErrClosed)
	}
}

// openStream begins to open a stream over c, unless one is being opened or the
// back-off runs.
func (s *session) openStream(kind carrierSet, c network.Conn, now time.Time) {
	t := &s.streams
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.opening || t.closed || now.Before(t.after) {
		return
	}
	t.opening = true
	t.delay = min(max(2*t.delay, reopenMin), reopenMax)
	t.after = now.Add(t.delay)
	if !s.node.goTracked(func() {
		err := s.dialStream(kind, c)
		t.mu.Lock()
		t.opening = false
		t.mu.Unlock()
		if err != nil {
			s.node.log.Debug("voice stream not opened", "peer", s.Peer(), "transport", transportName(kind), "err", err)
		}
		s.kick()
	}) {
		t.opening = false
	}
}

// dialStream opens a stream as the session's initiator. What is sent
// meanwhile, and has no other way, waits in its ring.
func (s *session) dialStream(kind carrierSet, c network.Conn) error {
	v := newVoiceStream(s, kind, c)
	s.link.opening.Store(v)
	defer s.link.opening.Store(nil)
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTimeout)
	defer cancel()
	st, err := c.NewStream(overRelay(ctx)) // c has been chosen
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	ctx, stop := underDeadline(ctx, st)
	err = func() error {
		if err := st.SetProtocol(voiceProtocol); err != nil {
			return err
		}
		// Every node speaks it: naming it and going on saves a round trip.
		rw := msmux.NewMSSelect(st, voiceProtocol)
		if _, err := rw.Write(binary.BigEndian.AppendUint32(nil, s.link.out.index)); err != nil {
			return fmt.Errorf("index: %w", err)
		}
		return v.run(ctx, st, rw, true)
	}()
	stop()
	if err != nil {
		_ = st.Reset()
	}
	return err
}

// serveVoice takes a stream as a session's responder.
func (n *Node) serveVoice(st network.Stream) {
	remote := st.Conn().RemotePeer()
	release, ok := n.admit(remote)
	if !ok {
		_ = st.ResetWithError(network.StreamRateLimited)
		return
	}
	defer release()
	ctx, stop := underDeadline(n.ctx, st)
	defer stop()
	var head [4]byte
	if _, err := io.ReadFull(st, head[:]); err != nil {
		_ = st.Reset()
		return
	}
	kind := connKind(st.Conn())
	s := n.sessionOf(binary.BigEndian.Uint32(head[:]))
	if s == nil || s.remote != remote || s.initiator || s.carriers&kind&(onQUIC|onTCP|onRelay) == 0 {
		_ = st.Reset()
		return
	}
	if err := newVoiceStream(s, kind, st.Conn()).run(ctx, st, st, false); err != nil {
		_ = st.Reset()
		n.log.Debug("voice stream refused", "peer", s.Peer(), "err", err)
	}
}
