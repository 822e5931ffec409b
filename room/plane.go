package room

import (
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"teahouse/internal/mesh"
)

// The voice plane: what is done with every frame. It runs on the goroutines of
// others and waits for none of them.
//
//	ours, on the goroutine that calls Speak:
//	 1. seal the frame, once, under the epoch that we send in
//	 2. for each repair depth that is in use, one packet: it, and older ones again
//	 3. to each link, the packet of its depth: Session.SendPacket
//
//	others', on the goroutine of the socket that brought the packet:
//	 1. decode the packet: at most 8 groups of at most 4 sealed frames
//	 2. the key of (epoch, the member at this link's far end); no other is tried
//	 3. drop what was seen before; open; mark as seen
//	 4. Config.Heard, one frame at a time for each member
//
// Locks: plane.mu is held while we speak, voice.mu while one member's packet
// is opened and heard, link.mu around the numbers of reports. None is held
// while another is taken.
const (
	// paddingStep is what the length of a voice packet is a multiple of, in
	// bytes. Frames of constant bit rate have one length anyway: this hides
	// small differences between encoders' frames.
	paddingStep = 16
	// repairReach is how old a frame may be that is sent again.
	repairReach = 250 * time.Millisecond
)

// Errors of Speak.
var (
	errFrame   = errors.New("frame out of range")
	errCounter = errors.New("this instance has used all its frame counters")
)

// counters are what Stats reports; they may be touched from anywhere.
type counters struct {
	framesSent, framesOpened, framesReplayed, framesUnopened, packetsRefused atomic.Uint64
	broadcastsBad, messagesBad, entriesRefused, sessionsRefused              atomic.Uint64
}

// plane is the voice of one room.
type plane struct {
	// Constant.
	heard func(Member, *Frame, time.Time)
	count *counters
	start time.Time // of the clock that reports tell

	// tags are those of the epochs we hold, for reports.
	tags atomic.Pointer[[]tag]

	mu         sync.Mutex
	closed     bool
	muted      bool
	listenOnly bool
	links      []*link
	sealers    []sending // one for each epoch that is held, newest first
	sent       [flows]sentFrames
	allotted   time.Time // when the way out was divided (allot.go)
	shares     []share
	short      time.Time // since when there is too little for base on all links
	frame      Frame
	packet     voicePacket
	out        [maxDepth + 1][mesh.MaxPacket]byte
}

// sending is an epoch that we may send in, from a time on.
type sending struct {
	id   epochID
	from time.Time
	skip bool // it lost before its time had come
	*sealer
}

// sentFrames are the newest sealed frames of one flow.
type sentFrames struct {
	counter uint32 // of the next frame
	// What the flow costs (allot.go): of the newest frame, media time and
	// sealed length, and how many come in a second.
	media     uint32
	length    int
	perSecond float64
	ring      [maxDepth + 1]sentFrame
}

type sentFrame struct {
	ok            bool
	counter       uint32
	epoch, sender tag
	at            time.Time
	sealed        []byte
}

func newPlane(cfg *Config, count *counters) *plane {
	p := &plane{heard: cfg.Heard, count: count, start: time.Now(), muted: cfg.Muted, listenOnly: cfg.ListenOnly}
	for flow := range p.sent {
		for i := range p.sent[flow].ring {
			p.sent[flow].ring[i].sealed = make([]byte, 0, maxSealed)
		}
	}
	p.tags.Store(&[]tag{})
	return p
}

// speak seals f and sends it on every link. See Room.Speak.
func (p *plane) speak(f *Frame) error {
	if f.Flow >= flows || len(f.Opus) == 0 || len(f.Opus) > MaxOpus || f.Level > maxLevel {
		return errFrame
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	now := time.Now()
	key := p.sealerAt(now)
	if p.muted && !f.Cover || p.listenOnly || key == nil || len(p.links) == 0 {
		return nil
	}
	if err := p.seal(key, f, now); err != nil {
		return err
	}
	var sizes [maxDepth + 1]int
	for _, l := range p.links {
		if l.flow != f.Flow {
			continue
		}
		depth := int(l.depth.Load())
		if sizes[depth] == 0 {
			sizes[depth] = p.pack(int(f.Flow), depth, now)
		}
		// What cannot be sent is counted by the link.
		_ = l.net.SendPacket(p.out[depth][:sizes[depth]])
	}
	p.count.framesSent.Add(1)
	return nil
}

// sealerAt is the key to send with: that of the newest epoch whose time has
// come, else of the oldest.
func (p *plane) sealerAt(now time.Time) *sealer {
	for _, s := range p.sealers {
		if !s.skip && !s.from.After(now) {
			return s.sealer
		}
	}
	if len(p.sealers) > 0 {
		return p.sealers[len(p.sealers)-1].sealer
	}
	return nil
}

// sendTag is the tag of the epoch that we send in, zeros for none.
func (p *plane) sendTag(now time.Time) tag {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.sealerAt(now); s != nil {
		return s.epoch
	}
	return tag{}
}

// seal puts the sealed f in place of the oldest one.
func (p *plane) seal(key *sealer, f *Frame, now time.Time) error {
	flow := &p.sent[f.Flow]
	slot := &flow.ring[flow.counter%uint32(len(flow.ring))]
	p.frame = *f
	p.frame.Counter = flow.counter
	sealed, err := key.seal(slot.sealed[:0], &p.frame)
	p.frame.Opus = nil
	if err != nil {
		slot.ok = false
		if errors.Is(err, errNonceSpent) {
			return errCounter
		}
		return err
	}
	*slot = sentFrame{true, flow.counter, key.epoch, key.sender, now, sealed}
	flow.pace(f.MediaTime, len(sealed))
	flow.counter = nextCounter(flow.counter)
	return nil
}

// pack makes the packet of one depth and gives its size: the newest frame and
// up to depth older ones, in a group of their own where they were sealed in
// another epoch. What does not fit is left out, the oldest first.
func (p *plane) pack(flow, depth int, now time.Time) int {
	s := &p.sent[flow]
	p.packet.Count = 0
	size := voiceHeadLen
	var g *group
	for back := range uint32(depth) + 1 {
		counter := s.counter - 1 - back
		f := &s.ring[counter%uint32(len(s.ring))]
		if !f.ok || f.counter != counter || now.Sub(f.at) > repairReach {
			break
		}
		size += 2 + len(f.sealed)
		if g == nil || g.Epoch != f.epoch {
			size += groupHeadLen
		}
		if size > mesh.MaxPacket {
			break
		}
		if g == nil || g.Epoch != f.epoch {
			g = &p.packet.Groups[p.packet.Count]
			p.packet.Count++
			*g = group{Epoch: f.epoch, Sender: f.sender, Flow: uint8(flow), Newest: counter}
		}
		g.Frames[g.Count] = f.sealed
		g.Count++
	}
	out, err := p.packet.append(p.out[depth][:0], paddingStep)
	if err != nil {
		return 0 // cannot be: one frame of MaxOpus fits
	}
	return len(out)
}

// setQuiet mutes: no frame leaves after it has returned.
func (p *plane) setQuiet(muted, listenOnly bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.muted, p.listenOnly = muted, listenOnly
}

// setEpochs makes epochs those that we hold, newest first. make gives the
// sealer of one that was not held before.
func (p *plane) setEpochs(epochs []*epoch, make func(*epoch) *sealer) {
	tags := []tag{}
	var sealers []sending
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range epochs {
		tags = append(tags, e.tag)
		next := sending{id: e.id, from: e.sendFrom, skip: e.skip}
		// One sealer for each epoch and no more: it guards its nonces.
		i := slices.IndexFunc(p.sealers, func(s sending) bool { return s.id == e.id })
		if i >= 0 {
			next.sealer = p.sealers[i].sealer
		} else {
			next.sealer = make(e)
		}
		sealers = append(sealers, next)
	}
	p.sealers = sealers
	p.tags.Store(&tags)
}

// holds tells whether an epoch of this tag is held.
func (p *plane) holds(t tag) bool { return slices.Contains(*p.tags.Load(), t) }

func (p *plane) addLink(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links = append(slices.Clone(p.links), l)
}

// removeLink ceases to send on l; what is on its way to us is still heard.
func (p *plane) removeLink(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links = slices.DeleteFunc(slices.Clone(p.links), func(o *link) bool { return o == l })
}

// restart begins a new instance: its frames are numbered from the start, under
// keys of its own salt.
func (p *plane) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sealers = nil
	for flow := range p.sent {
		p.sent[flow].counter = 0
		for i := range p.sent[flow].ring {
			p.sent[flow].ring[i].ok = false
		}
	}
	p.tags.Store(&[]tag{})
}

func (p *plane) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.links, p.sealers = nil, nil
}

// voice is what is heard of one instance of one member.
type voice struct {
	// Constant.
	plane    *plane
	member   Member
	instance uint64

	mu     sync.Mutex
	closed bool
	keys   []*voiceKey // newest first, at most maxEpochs
	packet voicePacket
	frame  Frame
	// How each flow arrives, and that of the newest frame: the one we report of.
	receptions [flows]Reception
	flow       uint8
}

// voiceKey opens what the member says in one epoch.
type voiceKey struct {
	id      epochID
	until   time.Time // zero for the newest
	windows [flows]replayWindow
	*opener
}

// setEpochs is as plane.setEpochs.
func (v *voice) setEpochs(epochs []*epoch, make func(*epoch) *opener) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var keys []*voiceKey
	for _, e := range epochs {
		i := slices.IndexFunc(v.keys, func(k *voiceKey) bool { return k.id == e.id })
		var k *voiceKey
		if i >= 0 {
			k = v.keys[i]
		} else {
			k = &voiceKey{id: e.id, opener: make(e)}
		}
		k.until = e.until
		keys = append(keys, k)
	}
	v.keys = keys
}

// close ends it: nothing is heard of it after close has returned.
func (v *voice) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.closed, v.keys = true, nil
}

// take opens a voice packet that came on a link of this member.
func (v *voice) take(data []byte, arrival time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed {
		return
	}
	if v.packet.decode(data) != nil {
		v.plane.count.packetsRefused.Add(1)
		return
	}
	for i := int(v.packet.Count) - 1; i >= 0; i-- { // oldest first
		v.takeGroup(&v.packet.Groups[i], arrival)
	}
}

func (v *voice) takeGroup(g *group, arrival time.Time) {
	if g.Flow >= flows {
		v.plane.count.packetsRefused.Add(1)
		return
	}
	k := v.keyFor(g.header(0), arrival)
	if k == nil {
		v.plane.count.framesUnopened.Add(uint64(g.Count))
		return
	}
	window := &k.windows[g.Flow]
	for i := int(g.Count) - 1; i >= 0; i-- { // oldest first
		h := g.header(i)
		if window.seen(h.Counter) {
			v.plane.count.framesReplayed.Add(1)
			if i == 0 && g.Flow == v.flow {
				v.receptions[v.flow].Direct(h.Counter)
			}
			continue
		}
		if k.open(&v.frame, h, g.Frames[i]) != nil {
			v.plane.count.framesUnopened.Add(1)
			continue
		}
		window.accept(h.Counter)
		v.plane.count.framesOpened.Add(1)
		v.frame.Instance, v.frame.Repaired = v.instance, i > 0
		v.measure(i > 0, arrival)
		if v.plane.heard != nil {
			v.plane.heard(v.member, &v.frame, arrival)
		}
	}
}

// measure notes how v.frame has come. The counters of the flow that the link
// does not take go on for others: what was not sent here is not lost.
func (v *voice) measure(again bool, arrival time.Time) {
	f := &v.frame
	if !again && f.Flow != v.flow {
		v.flow = f.Flow
		v.receptions[v.flow].resume()
	}
	if f.Flow == v.flow {
		v.receptions[v.flow].Frame(f.Counter, f.MediaTime, again, arrival.Sub(v.plane.start))
	}
}

// keyFor is the key of the member at this link's far end in the epoch of h.
func (v *voice) keyFor(h frameHeader, arrival time.Time) *voiceKey {
	for _, k := range v.keys {
		if k.opens(h) && (k.until.IsZero() || arrival.Before(k.until)) {
			return k
		}
	}
	return nil
}
