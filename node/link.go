package node

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"

	"teahouse/internal/mesh"
	"teahouse/internal/seal"
)

// link is one session's voice: both its hop keys, and the path of the moment.
type link struct {
	session *session
	stats   counters
	deliver atomic.Pointer[func([]byte, time.Time)]
	way     atomic.Pointer[way] // nil while there is none
	// datagrams is the way by datagrams, chosen or not: checks go there.
	datagrams atomic.Pointer[way]
	// hopeless: what goes by the way of the moment does not arrive, or has yet
	// to show that it does, and there is no better.
	hopeless atomic.Bool
	// opening is a voice stream that does not stand yet.
	opening atomic.Pointer[voiceStream]
	// While the way by datagrams is in doubt, packets go by the stream that
	// stands by, too; the room takes the first copy of each frame.
	doubt   atomic.Bool
	standby atomic.Pointer[voiceStream]
	// sending and taking end at different times, see the life of a session.
	noSend, noTake atomic.Bool

	out    sealer
	rate   rateControl // of datagrams; guarded by out.mu
	meter  rateMeter   // guarded by out.mu
	in     opener
	bucket bucket // guarded by in.mu
	checks checker
}

// way is how packets travel. It does not change; a new one replaces it.
type way struct {
	path mesh.Path // RTT is filled in when asked
	kind carrierSet
	// Of a datagram: the QUIC connection, its socket, and the address that
	// the gater has allowed.
	conn   network.Conn
	quic   quicConn
	sender packetSender
	to     netip.AddrPort
	// Of a stream.
	stream *voiceStream
}

func newLink(s *session, out, in *seal.Key, theirIndex uint32) *link {
	l := &link{session: s}
	l.out.key, l.out.index = out, theirIndex
	l.in.key = in
	return l
}

// send is [mesh.Session.SendPacket].
func (l *link) send(packet []byte) error {
	if len(packet) > mesh.MaxPacket {
		return mesh.ErrTooLarge
	}
	if l.noSend.Load() {
		return mesh.ErrClosed
	}
	w := l.way.Load()
	if w == nil {
		v := l.opening.Load()
		if v == nil {
			l.stats.droppedSending.Add(1)
			return nil
		}
		v.push(packet, true)
	} else if w.stream != nil {
		w.stream.push(packet, true)
	} else {
		second := l.second()
		err := l.sendDatagram(w, typePacket, packet)
		if second == nil && err != nil && isAway(err) { // the network is: the stream's may be another
			second = l.standby.Load()
		}
		if second != nil {
			second.push(packet, err != nil)
		} else if err != nil {
			l.stats.droppedSending.Add(1)
			return nil
		}
	}
	l.stats.sentPackets.Add(1)
	l.stats.sentBytes.Add(uint64(len(packet)))
	return nil
}

// second is the stream that packets go by too while datagrams are in doubt.
func (l *link) second() *voiceStream {
	if !l.doubt.Load() {
		return nil
	}
	if v := l.standby.Load(); v != nil {
		return v
	}
	return l.opening.Load()
}

// Why a datagram did not go; other reasons are the socket's.
var (
	errMoved = errors.New("the peer has moved")
	errHeld  = errors.New("over the permitted rate")
)

// sendDatagram seals and sends one datagram to where the QUIC connection
// sends now, if the gater has allowed that address.
func (l *link) sendDatagram(w *way, kind byte, payload []byte) error {
	if w.quic.remote() != w.to {
		l.session.kick() // ask the gater first
		return errMoved
	}
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	if kind == typePacket {
		l.meter.packets++
		if !l.rate.take(time.Now(), len(payload)) {
			return errHeld
		}
		l.meter.bytes += uint64(len(payload))
	}
	b, err := l.out.seal(kind, payload)
	if err != nil {
		go l.session.end(errExpired, 0, false) // never with a lock held
		return err
	}
	return w.sender.sendTo(b, w.to)
}

// fate is what became of a datagram.
type fate int

const (
	taken fate = iota
	replayed
	forged
)

// receive takes a datagram that bears our index. It opens b in place.
func (l *link) receive(b []byte, arrival time.Time) fate {
	if l.noTake.Load() {
		return taken
	}
	kind := b[0]
	l.in.mu.Lock()
	packet, err := l.in.open(b)
	if err != nil {
		l.in.mu.Unlock()
		l.stats.unauthentic.Add(1)
		if err == errReplayed { //nolint:errorlint // our own value, never wrapped, on the voice path
			return replayed
		}
		return forged
	}
	ok, abusive := l.bucket.take(arrival, len(b))
	l.in.mu.Unlock()
	l.session.life.hear(arrival)
	if !ok {
		l.overLimit(abusive)
		return taken
	}
	if kind == typeCheck {
		l.takeCheck(packet, arrival)
		return taken
	}
	l.pass(packet, arrival)
	return taken
}

// sendsTo tells whether a is where our own datagrams go: QUIC has validated it.
func (l *link) sendsTo(a netip.AddrPort) bool {
	w := l.datagrams.Load()
	return w != nil && w.to == a
}

// receiveStream takes a packet from a voice stream, which has proved whose it
// is.
func (l *link) receiveStream(packet []byte, arrival time.Time) {
	if l.noTake.Load() {
		return
	}
	l.in.mu.Lock()
	ok, abusive := l.bucket.take(arrival, len(packet))
	l.in.mu.Unlock()
	if !ok {
		l.overLimit(abusive)
		return
	}
	l.pass(packet, arrival)
}

func (l *link) overLimit(abusive bool) {
	l.stats.droppedReceiving.Add(1)
	if abusive {
		l.noTake.Store(true)
		l.session.end(errAbuse, 0, false)
		l.session.node.drop(l.session.remote, "packets over the limit")
	}
}

// pass hands a packet to the room, if it has started.
func (l *link) pass(packet []byte, arrival time.Time) {
	l.stats.receivedPackets.Add(1)
	l.stats.receivedBytes.Add(uint64(len(packet)))
	if deliver := l.deliver.Load(); deliver != nil && *deliver != nil {
		(*deliver)(packet, arrival)
	}
}

// takeCheck answers a path check of the peer or notes the answer to ours.
func (l *link) takeCheck(b []byte, arrival time.Time) {
	c, ok := parseCheck(b)
	if !ok {
		return
	}
	if c.answer {
		rtt, changed := l.checks.answered(c.token, arrival)
		if rtt > 0 {
			l.observe(c.tally, rtt, arrival)
			l.session.vouch()
		}
		if changed {
			l.session.kick() // the path is as good as new
		}
		if l.doubt.Load() && !l.checks.doubted(arrival) {
			l.doubt.Store(false)
		}
		return
	}
	if w := l.datagrams.Load(); w != nil {
		l.in.mu.Lock()
		got := l.in.tally()
		l.in.mu.Unlock()
		l.sendCheck(w, check{answer: true, token: c.token, tally: got})
	}
}

// observe tells the rate control what an answer shows.
func (l *link) observe(got tally, rtt time.Duration, now time.Time) {
	l.out.mu.Lock()
	sample, full := l.meter.add(got, rtt, now)
	queued := full && l.rate.queue(now, sample)
	opened := false
	l.out.mu.Unlock()
	if full {
		common, own, anew := l.session.node.shared.observe(now, l, sample, queued)
		l.out.mu.Lock()
		l.rate.common = common
		l.rate.observe(now, sample, own)
		if anew {
			l.rate.forgetBase()
		}
		opened = l.rate.broken(now)
		l.out.mu.Unlock()
	}
	if opened {
		l.session.kick()
	}
}

// breaker tells whether the circuit breaker is open.
func (l *link) breaker(now time.Time) bool {
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	return l.rate.broken(now)
}

// forgetRate begins the rate control anew: the path leads elsewhere.
func (l *link) forgetRate() {
	l.out.mu.Lock()
	defer l.out.mu.Unlock()
	l.rate, l.meter = rateControl{}, rateMeter{}
}

func (l *link) sendCheck(w *way, c check) {
	l.checks.mu.Lock()
	defer l.checks.mu.Unlock()
	_ = l.sendDatagram(w, typeCheck, c.appendTo(l.checks.buf[:0])) // no answer will say so
}

// path is [mesh.Session.Path].
func (l *link) path() (mesh.Path, bool) {
	w := l.way.Load()
	if w == nil || l.hopeless.Load() || l.noSend.Load() {
		return mesh.Path{}, false
	}
	p := w.path
	if w.stream != nil {
		p.RTT = w.stream.checks.rtt()
	} else {
		p.RTT = l.checks.rtt()
	}
	return p, true
}

// refuse stops both directions: [mesh.Session.Close].
func (l *link) refuse() {
	l.noSend.Store(true)
	l.noTake.Store(true)
}
