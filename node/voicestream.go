package node

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"teahouse/internal/mesh"
)

// A voice stream (docs/protocol.md section 4): the session's initiator sends
// the responder's receiver index u32, then Noise XX runs, then both ways
//
//	u16 length | packet            length at most 1,171
//	u16 0x8000 | 13 bytes          a path check
//
// A stream does not push back in time: yamux alone takes 256 KiB, a minute of
// voice, before a write waits. So the sender stops writing when a path check
// is late, holds five packets (100 ms of voice), and drops the oldest.
const (
	checkFrame = 0x8000

	// ringPackets is how many packets wait for the sender, and ringBurst how
	// many when none has waited for ringTime: several rooms and repair bring
	// more than five within a moment, before the sender has woken up.
	ringPackets = 5
	ringBurst   = 16
	ringTime    = 100 * time.Millisecond
	// lateAfter is how late the answer to a check may be before the sender
	// holds back, and how long one write may wait.
	lateAfter = 200 * time.Millisecond
	// resetAfter is the backlog after which the stream is given up.
	resetAfter = 400 * time.Millisecond
	// streamCheckEvery is how often a stream in use is asked.
	streamCheckEvery = 100 * time.Millisecond
)

var (
	errBacklog   = errors.New("voice stream fell behind")
	errForbidden = errors.New("policy refuses this path")
)

// voiceStream is one stream that carries a session's packets.
type voiceStream struct {
	session *session
	kind    carrierSet // onQUIC, onTCP or onRelay
	conn    network.Conn
	stream  network.Stream
	secure  net.Conn
	born    time.Time
	checks  checker
	dead    chan struct{}
	once    sync.Once
	chosen  atomic.Int64 // when last chosen, Unix nanoseconds

	wake chan struct{}

	mu      sync.Mutex
	ring    [ringBurst]waiting // oldest first, from head
	head, n int
	answers [4]uint32 // tokens to answer
	nAnswer int
}

// waiting is a packet in the ring.
type waiting struct {
	packet []byte
	since  time.Time
	// counted: it goes by this stream alone, so dropping it is a loss.
	counted bool
}

func newVoiceStream(s *session, kind carrierSet, c network.Conn) *voiceStream {
	v := &voiceStream{
		session: s, kind: kind, conn: c, born: time.Now(),
		dead: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	for i := range v.ring {
		v.ring[i].packet = make([]byte, 0, mesh.MaxPacket)
	}
	return v
}

// run runs the handshake inside st, adds the stream to the session and starts
// its two goroutines. rw is st, or what negotiates its protocol on the way.
func (v *voiceStream) run(ctx context.Context, st network.Stream, rw io.ReadWriter, initiator bool) error {
	s := v.session
	paced := &pacedConn{streamConn: streamConn{st}, rw: rw}
	secure, err := s.node.secureConn(ctx, paced, s.remote, voicePrologue(&s.binding), initiator)
	if err != nil {
		return fmt.Errorf("noise: %w", err)
	}
	// Packets wait already for this stream; the gater may have changed its mind
	// since it was begun.
	if !s.mayStream(v.conn) {
		return errForbidden
	}
	_ = st.SetDeadline(time.Time{})
	paced.pace = true
	v.stream, v.secure = st, secure
	v.chosen.Store(time.Now().UnixNano())
	surplus, ok := s.streams.add(v)
	for _, old := range surplus {
		old.fail(mesh.ErrClosed)
	}
	if !ok || !s.node.goTracked(v.writeLoop) {
		v.fail(mesh.ErrClosed)
		return mesh.ErrClosed
	}
	if !s.node.goTracked(v.readLoop) {
		v.fail(mesh.ErrClosed)
		return mesh.ErrClosed
	}
	s.kick()
	return nil
}

// fail ends the stream and takes it from its session.
func (v *voiceStream) fail(why error) {
	v.once.Do(func() {
		close(v.dead)
		_ = v.stream.Reset()
		v.session.streams.remove(v)
		l := v.session.link
		if w := l.way.Load(); w != nil && w.stream == v {
			l.way.CompareAndSwap(w, nil)
		}
		l.standby.CompareAndSwap(v, nil)
		v.session.node.log.Debug("voice stream ended", "peer", v.session.Peer(), "why", why)
		v.session.kick()
	})
}

// push puts a packet into the ring, in the place of the oldest if it is full.
// counted tells that it has no other way.
func (v *voiceStream) push(packet []byte, counted bool) {
	now := time.Now()
	v.mu.Lock()
	v.trim(now, 1)
	w := &v.ring[(v.head+v.n)%ringBurst]
	w.packet, w.since, w.counted = append(w.packet[:0], packet...), now, counted
	v.n++
	v.mu.Unlock()
	v.rouse()
}

// trim drops the oldest packets until there is room for extra more. mu must be
// held.
func (v *voiceStream) trim(now time.Time, extra int) {
	for v.n+extra > ringBurst || v.n+extra > ringPackets && now.Sub(v.ring[v.head].since) > ringTime {
		if v.ring[v.head].counted {
			v.session.link.stats.droppedSending.Add(1)
		}
		v.head = (v.head + 1) % ringBurst
		v.n--
	}
}

func (v *voiceStream) rouse() {
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// answer puts an answer into the way of the sender; of too many, the newest
// count.
func (v *voiceStream) answer(token uint32) {
	v.mu.Lock()
	if v.nAnswer == len(v.answers) {
		copy(v.answers[:], v.answers[1:])
		v.nAnswer--
	}
	v.answers[v.nAnswer] = token
	v.nAnswer++
	v.mu.Unlock()
	v.rouse()
}

// take appends what is to be written next: answers first, then, unless held
// back, the oldest packet.
func (v *voiceStream) take(dst []byte, now time.Time, hold bool) (out []byte, packet bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.trim(now, 0)
	for _, token := range v.answers[:v.nAnswer] {
		dst = appendCheckFrame(dst, check{answer: true, token: token})
	}
	v.nAnswer = 0
	if hold || v.n == 0 {
		return dst, false
	}
	p := v.ring[v.head].packet
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(p)))
	dst = append(dst, p...)
	v.head = (v.head + 1) % ringBurst
	v.n--
	return dst, true
}

func appendCheckFrame(dst []byte, c check) []byte {
	return c.appendTo(binary.BigEndian.AppendUint16(dst, checkFrame))
}

// writeLoop is the one sender.
func (v *voiceStream) writeLoop() {
	buf := make([]byte, 0, 2+mesh.MaxPacket+8*(2+checkLen))
	tick := time.NewTimer(streamCheckEvery)
	defer tick.Stop()
	var lastAsk, lastPacket time.Time
	for {
		now := time.Now()
		late := v.checks.waiting(now)
		// While packets flow the path is asked often, else once a second, and
		// given time: what is sent again by TCP comes late.
		every, patience := checkEvery, silentFor
		if now.Sub(lastPacket) < checkEvery {
			every, patience = streamCheckEvery, resetAfter
		}
		if late > patience {
			v.fail(errBacklog)
			return
		}
		buf = buf[:0]
		if now.Sub(lastAsk) >= every-every/20 {
			buf = appendCheckFrame(buf, check{token: v.checks.ask(now)})
			lastAsk = now
		}
		out, packet := v.take(buf, now, late > lateAfter)
		if len(out) > 0 {
			if _, err := v.secure.Write(out); err != nil {
				v.fail(fmt.Errorf("write: %w", err))
				return
			}
			if packet {
				lastPacket = now
				continue // there may be more
			}
		}
		tick.Reset(every)
		select {
		case <-v.wake:
		case <-tick.C:
		case <-v.dead:
			return
		}
	}
}

// readLoop passes packets to the link.
func (v *voiceStream) readLoop() {
	r := bufio.NewReaderSize(v.secure, 4<<10)
	buf := make([]byte, mesh.MaxPacket)
	for {
		_ = v.secure.SetReadDeadline(time.Now().Add(silentAfter))
		var head [2]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			v.fail(fmt.Errorf("read: %w", err))
			return
		}
		size := int(binary.BigEndian.Uint16(head[:]))
		isCheck := size == checkFrame
		if isCheck {
			size = checkLen
		}
		if size > mesh.MaxPacket {
			v.session.node.Penalise(v.session.Peer(), "packet over its limit")
			v.fail(errTooLong)
			return
		}
		b := buf[:size]
		if _, err := io.ReadFull(r, b); err != nil {
			v.fail(fmt.Errorf("read: %w", err))
			return
		}
		now := time.Now()
		v.session.life.hear(now)
		if !isCheck {
			v.session.link.receiveStream(b, now)
		} else if c, ok := parseCheck(b); ok && c.answer {
			v.checks.answered(c.token, now)
		} else if ok {
			v.answer(c.token)
		}
	}
}

// pacedConn makes a write that waits fail after resetAfter, waking every
// lateAfter; a write that was cut short cannot be taken up again, because
// Noise has sealed it already.
type pacedConn struct {
	streamConn
	rw   io.ReadWriter
	pace bool // set before the stream's goroutines start
}

// Read reads through what negotiates the protocol.
func (p *pacedConn) Read(b []byte) (int, error) { return p.rw.Read(b) }

// Write writes b or gives the stream up.
func (p *pacedConn) Write(b []byte) (int, error) {
	if !p.pace {
		return p.rw.Write(b)
	}
	begun := time.Now()
	written := 0
	for {
		_ = p.SetWriteDeadline(time.Now().Add(lateAfter))
		n, err := p.rw.Write(b[written:])
		written += n
		switch {
		case err == nil:
			return written, nil
		case !errors.Is(err, os.ErrDeadlineExceeded) && !isTimeout(err):
			return written, err
		case time.Since(begun) >= resetAfter:
			return written, errBacklog
		}
	}
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
