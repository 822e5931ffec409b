package node

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
	"github.com/libp2p/go-libp2p/core/peer"
)

func fromIP(p, ip string) origin {
	return origin{peer: peer.ID(p), prefix: sourcePrefix(netip.MustParseAddr(ip))}
}

func TestSpending(t *testing.T) {
	a := allowance{rate: 10, burst: 20}
	for _, c := range []struct {
		perSecond     int
		least, most   int // taken in 20 s
		floods, waits bool
	}{
		{5, 100, 100, false, false},
		{10, 200, 200, false, false},
		{40, 215, 225, true, true},
		{1000, 215, 225, true, true},
	} {
		var take, spend spending
		taken, floodAt := 0, time.Duration(-1)
		waited, spendFlood := false, false
		for i := range 20 * c.perSecond {
			at := time.Duration(i) * time.Second / time.Duration(c.perSecond)
			ok, flood := take.take(epoch.Add(at), a, 1)
			if ok {
				taken++
			}
			if flood && floodAt < 0 {
				floodAt = at
			}
			wait, flood := spend.spend(epoch.Add(at), a, 1)
			waited, spendFlood = waited || wait > 0, spendFlood || flood
			if wait < 0 || wait > maxWait {
				t.Fatalf("wait %v", wait)
			}
		}
		if taken < c.least || taken > c.most || (floodAt >= 0) != c.floods || spendFlood != c.floods || waited != c.waits {
			t.Errorf("%d a second: %d taken, flood at %v, waited %v, flood by spending %v", c.perSecond, taken, floodAt, waited, spendFlood)
		}
		if c.perSecond == 1000 && floodAt > 1100*time.Millisecond {
			t.Errorf("a flood is called one after %v", floodAt)
		}
	}
	// Much at once is one at once, however long it takes to look at it.
	var fast spending
	for i := range 1000 {
		if _, flood := fast.take(epoch, a, 1); flood != (i+1 >= (1+floodAmount)*20) {
			t.Fatalf("after %d at once: flood %v", i+1, flood)
		}
	}
	// Bursts beyond the allowance, with pauses, are no flood.
	var s spending
	for i := range 50 {
		now := epoch.Add(time.Duration(i) * 2 * time.Second)
		for range 60 {
			if _, flood := s.take(now, a, 1); flood {
				t.Fatal("a burst was called a flood")
			}
		}
	}
}

func TestSourcePrefix(t *testing.T) {
	for in, want := range map[string]string{
		"44.1.2.3": "44.1.2.3/32", "::ffff:44.1.2.3": "44.1.2.3/32",
		"2a00:1:2:3:4:5:6:7": "2a00:1:2:3::/64", "fe80::1%eth0": "fe80::/64",
	} {
		if got := sourcePrefix(netip.MustParseAddr(in)).String(); got != want {
			t.Errorf("%s: %s", in, got)
		}
	}
	if sourcePrefix(netip.Addr{}).IsValid() {
		t.Error("no address has a prefix")
	}
}

// TestLedger: one peer's excess is its own, an address has a bound of its own,
// and neither the accounts nor what they hold grow without end.
func TestLedger(t *testing.T) {
	var l ledger
	bad, neighbour, other := fromIP("bad", "44.0.0.1"), fromIP("neighbour", "44.0.0.1"), fromIP("other", "44.0.0.2")
	flooded := false
	for i := range 2000 {
		_, flood := l.take(epoch.Add(time.Duration(i)*time.Millisecond), bad, attempts, 1)
		flooded = flooded || flood
	}
	now := epoch.Add(2 * time.Second)
	for _, o := range []origin{neighbour, other} {
		for range int(allowances[attempts].burst) {
			if ok, flood := l.take(now, o, attempts, 1); !ok || flood {
				t.Fatalf("%s pays for another", o.peer)
			}
		}
	}
	if !flooded {
		t.Error("a thousand attempts a second are no flood")
	}
	// Many peers of one address share what an address has; nobody is blamed.
	passed := 0
	for i := range 10 * perPrefix {
		for range 2 * int(allowances[attempts].burst) {
			ok, flood := l.take(now, fromIP(fmt.Sprint(i), "44.0.0.3"), attempts, 1)
			if ok {
				passed++
			}
			if flood {
				t.Fatal("a peer is blamed for its neighbours")
			}
		}
	}
	if most := perPrefix * int(allowances[attempts].burst); passed != most {
		t.Errorf("%d attempts of one address at once, want %d", passed, most)
	}
	// A loopback is not an address in this sense.
	for i := range 2 * perPrefix {
		for range int(allowances[attempts].burst) {
			if ok, _ := l.take(now, fromIP(fmt.Sprint("local", i), "127.0.0.1"), attempts, 1); !ok {
				t.Fatal("peers on loopback share an allowance")
			}
		}
	}
	for i := range 3 * maxAccounts {
		o := fromIP(fmt.Sprint("p", i), fmt.Sprintf("45.%d.%d.%d", i>>16, i>>8&255, i&255))
		l.take(now, o, openings, 1)
	}
	if len(l.peers) > maxAccounts || len(l.prefixes) > maxAccounts {
		t.Errorf("%d and %d accounts", len(l.peers), len(l.prefixes))
	}
	later := now.Add(time.Hour)
	for i := range maxAccounts { // all are idle: they go at once, not one by one
		l.take(later, fromIP(fmt.Sprint("q", i), "46.0.0.1"), openings, 0)
	}
	if len(l.prefixes) > maxAccounts {
		t.Errorf("%d prefixes", len(l.prefixes))
	}
}

// TestRestartStorm: 16 people behind one address who all start again pass, each
// with as much as someone who joins needs.
func TestRestartStorm(t *testing.T) {
	var l ledger
	rates := connRates(connsPerIP)
	for who := range 16 {
		o := fromIP(fmt.Sprint(who), "44.0.0.1")
		for range 2 { // QUIC and TCP
			if !rates.Allow(netip.MustParseAddr("44.0.0.1")) {
				t.Fatalf("person %d may not connect", who)
			}
		}
		for range 60 {
			if ok, _ := l.take(epoch, o, openings, 1); !ok || !l.negotiate(epoch, o) {
				t.Fatalf("person %d may not open a stream", who)
			}
			l.negotiated(o)
		}
		for range 32 {
			if ok, _ := l.take(epoch, o, attempts, 1); !ok {
				t.Fatalf("person %d may not try a session", who)
			}
		}
		for r, n := range map[resource]float64{gossipBytes: 256 << 10, lookupBytes: 64 << 10, otherBytes: 16 << 10} {
			if wait, flood := l.spend(epoch, o, r, n); wait > 0 || flood {
				t.Errorf("person %d waits %v", who, wait)
			}
		}
	}
	if rates.Allow(netip.MustParseAddr("44.0.0.9")) != true {
		t.Error("another address is refused")
	}
	refused := 0
	for range 100 {
		if !rates.Allow(netip.MustParseAddr("44.0.0.1")) {
			refused++
		}
	}
	if refused < 60 {
		t.Errorf("only %d of 100 more were refused", refused)
	}
}

func TestNegotiating(t *testing.T) {
	var l ledger
	o := fromIP("p", "44.0.0.1")
	for range maxNegotiating {
		if !l.negotiate(epoch, o) {
			t.Fatal("refused below the bound")
		}
	}
	if l.negotiate(epoch, o) {
		t.Error("no bound")
	}
	for i := range maxNegotiatingPrefix/maxNegotiating - 1 {
		for range maxNegotiating {
			if !l.negotiate(epoch, fromIP(fmt.Sprint(i), "44.0.0.1")) {
				t.Fatal("a neighbour is refused below the bound")
			}
		}
	}
	if l.negotiate(epoch, fromIP("one more", "44.0.0.1")) || !l.negotiate(epoch, fromIP("elsewhere", "44.0.0.2")) {
		t.Error("the bound of an address")
	}
	l.negotiated(o)
	if !l.negotiate(epoch, o) {
		t.Error("no place after one was given back")
	}
}

// TestHandshakes: who stalls loses his places to who comes, and never the
// other way round.
func TestHandshakes(t *testing.T) {
	var h handshakes
	stopped := map[peer.ID]int{}
	begin := func(at time.Duration, who origin) (*begun, bool) {
		return h.begin(epoch.Add(at), who, func() { stopped[who.peer]++ })
	}
	honest, ok := begin(0, fromIP("honest", "44.0.0.9"))
	if !ok {
		t.Fatal("refused")
	}
	for i := range atOnce - 1 {
		if _, ok := begin(time.Millisecond, fromIP(fmt.Sprint("bad", i%3), fmt.Sprintf("44.0.0.%d", i%3))); !ok {
			t.Fatal("refused below the bound")
		}
	}
	if _, ok := begin(2*time.Millisecond, fromIP("newcomer", "44.0.1.1")); ok {
		t.Error("a handshake of a millisecond was stopped")
	}
	for i := range 30 {
		if _, ok := begin(time.Second, fromIP(fmt.Sprint("newcomer", i), fmt.Sprintf("44.0.1.%d", i))); !ok {
			t.Fatalf("newcomer %d finds no place", i)
		}
	}
	if len(h.running) != atOnce || stopped["honest"] > 0 || stopped["bad0"]+stopped["bad1"]+stopped["bad2"] != 30 {
		t.Errorf("%d run, stopped %v", len(h.running), stopped)
	}
	h.end(honest)
	h.end(honest) // a second time does nothing
	if len(h.running) != atOnce-1 {
		t.Errorf("%d run", len(h.running))
	}
	// Behind one address, too, and places of others are left.
	h = handshakes{}
	for range atOncePrefix {
		begin(0, fromIP("bad", "44.0.0.1"))
	}
	if _, ok := begin(400*time.Millisecond, fromIP("neighbour", "44.0.0.1")); !ok {
		t.Error("a neighbour of someone who stalls finds no place")
	}
	if _, ok := begin(400*time.Millisecond, fromIP("other", "44.0.0.2")); !ok || len(h.running) != atOncePrefix+1 {
		t.Error("an address takes all places")
	}
	// Where each has one, an old one gives way.
	h = handshakes{}
	for i := range atOnce {
		begin(0, fromIP(fmt.Sprint(i), fmt.Sprintf("44.0.0.%d", i)))
	}
	if _, ok := begin(time.Second, fromIP("new", "44.0.1.1")); ok {
		t.Error("a handshake of a second was stopped for another peer's first")
	}
	if _, ok := begin(3*time.Second, fromIP("new", "44.0.1.1")); !ok {
		t.Error("handshakes that stall hold the door shut")
	}
}

func TestFraming(t *testing.T) {
	stream := func(lengths ...int) (out []byte) {
		for _, n := range lengths {
			out = append(binary.AppendUvarint(out, uint64(n)), bytes.Repeat([]byte{0xff}, n)...)
		}
		return out
	}
	for _, c := range []struct {
		in   []byte
		want int
		ok   bool
	}{
		{stream(), 0, true},
		{stream(0, 0, 1), 3, true},
		{stream(200, 1, 127, 128, 1000), 5, true},
		{stream(200)[:50], 1, true},
		{stream(1001), 0, false},
		{binary.AppendUvarint(nil, 1<<40), 0, false},
		{bytes.Repeat([]byte{0x80}, 6), 0, false},
	} {
		for _, step := range []int{1, 3, 1 << 20} { // however it comes
			f := framing{limit: 1000}
			got := 0
			var err error
			for piece := range slices.Chunk(c.in, step) {
				var n int
				if n, err = f.feed(piece); err != nil {
					break
				}
				got += n
			}
			if got != c.want && c.ok || (err == nil) != c.ok {
				t.Errorf("%x… in steps of %d: %d messages, %v", c.in[:min(4, len(c.in))], step, got, err)
			}
		}
	}
}

// FuzzFraming: however a stream is cut, the same is found in it, and no message
// that is let through is over the limit.
func FuzzFraming(f *testing.F) {
	f.Add([]byte{3, 1, 2, 3, 0, 0x80, 1}, uint8(1))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, uint8(2))
	f.Add([]byte{0xe8, 0x07, 1}, uint8(3))
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		whole, cut := framing{limit: 1000}, framing{limit: 1000}
		want, wantErr := whole.feed(b)
		got := 0
		var err error
		for piece := range slices.Chunk(b, int(step)+1) {
			var n int
			n, err = cut.feed(piece)
			got += n
			if err != nil {
				break
			}
		}
		if got != want || !errors.Is(err, wantErr) || wantErr == nil && whole != cut {
			t.Fatalf("%d and %v at once, %d and %v in pieces of %d", want, wantErr, got, err, step+1)
		}
		if whole.left > whole.limit {
			t.Fatal("a message over the limit was let through")
		}
		if wantErr != nil {
			return
		}
		messages, rest := 0, b // what a plain reader finds
		for len(rest) > 0 {
			n, used := binary.Uvarint(rest)
			if used <= 0 {
				break
			}
			messages++
			rest = rest[used:]
			rest = rest[min(n, uint64(len(rest))):]
		}
		if messages != want {
			t.Fatalf("%d messages, a plain reader finds %d", want, messages)
		}
	})
}

func TestCondemn(t *testing.T) {
	var s standing
	p := peer.ID(idOf(1))
	shunnedFor := func(from time.Time) time.Duration {
		d := time.Duration(0)
		for ; s.at(p, from.Add(d)) < shunBelow; d += time.Second {
		}
		return d
	}
	s.condemn(p, epoch)
	first := shunnedFor(epoch)
	for range 50 {
		s.condemn(p, epoch) // one fault, however many of its streams saw it
	}
	if again := shunnedFor(epoch); again != first || first < 2*time.Minute || first > 5*time.Minute {
		t.Errorf("shunned for %v, then %v", first, again)
	}
	next := epoch.Add(first)
	s.condemn(p, next)
	if second := shunnedFor(next); second < 2*first {
		t.Errorf("shunned for %v the first time, %v the second", first, second)
	}
	if s.at(p, next) > graylistBelow {
		t.Error("gossip still takes what it says")
	}
}

// TestRecordStore: a flood of records neither fills the memory nor shuts out
// who has few.
func TestRecordStore(t *testing.T) {
	ctx := context.Background()
	r := newRecordStore()
	put := func(key, provider string) {
		t.Helper()
		if err := r.Put(ctx, ds.NewKey("/providers/"+key+"/"+provider), []byte{1}); err != nil {
			t.Fatal(err)
		}
	}
	find := func(key string) (got []string) {
		t.Helper()
		res, err := r.Query(ctx, query.Query{Prefix: "/providers/" + key})
		if err != nil {
			t.Fatal(err)
		}
		all, err := res.Rest()
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			got = append(got, strings.TrimPrefix(e.Key, "/providers/"))
		}
		slices.Sort(got)
		return got
	}
	put("TEA", "ALICE")
	put("TEA", "BOB")
	put("TEAPOT", "CAROL")
	if got := find("TEA"); !slices.Equal(got, []string{"TEA/ALICE", "TEA/BOB"}) {
		t.Errorf("found %v", got)
	}
	for i := range 3 * maxRecordsPerPeer {
		put(fmt.Sprint("JUNK", i), "MALLORY")
	}
	if n := len(r.byPeer["MALLORY"]); n != maxRecordsPerPeer {
		t.Errorf("%d records of one peer", n)
	}
	for i := range 3 * maxRecordsPerKey {
		put("BUSY", fmt.Sprint("P", i))
	}
	if n := len(find("BUSY")); n != maxRecordsPerKey {
		t.Errorf("%d records of one key", n)
	}
	for who := range 2 * maxRecords / maxRecordsPerPeer {
		for i := range maxRecordsPerPeer {
			put(fmt.Sprint("K", who, "X", i), fmt.Sprint("SYBIL", who))
		}
	}
	if r.count != maxRecords {
		t.Errorf("%d records", r.count)
	}
	for i := range 9 { // three rooms, three hours
		put(fmt.Sprint("ROOM", i), "DAVE")
	}
	if len(r.byPeer["DAVE"]) != 9 || r.count != maxRecords || len(find("TEA")) != 2 {
		t.Errorf("a full store kept %d of an honest peer's 9 records, %d in all", len(r.byPeer["DAVE"]), r.count)
	}
	all := find("")
	if len(all) != maxRecords {
		t.Errorf("%d found in all", len(all))
	}
	for _, name := range all {
		if err := r.Delete(ctx, ds.NewKey("/providers/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	if r.count != 0 || len(r.byKey) != 0 || len(r.byPeer) != 0 {
		t.Errorf("left: %d records, %d keys, %d peers", r.count, len(r.byKey), len(r.byPeer))
	}
}

// TestDoorstep: a flood of first packets leaves quic-go with few, and others
// with their turn.
func TestDoorstep(t *testing.T) {
	at := func(ip string) netip.AddrPort { return netip.AddrPortFrom(netip.MustParseAddr(ip), 9) }
	d := doorstep{known: func(a netip.AddrPort, _ time.Time) bool { return a == at("44.0.9.1") }}
	passed := 0
	for i := range 100_000 { // one source, two seconds
		if d.pass(0xc3, at("44.0.0.1"), epoch.Add(time.Duration(i)*20*time.Microsecond)) {
			passed++
		}
	}
	if most := int(firstAllowance.one.burst + 2*firstAllowance.one.rate); passed > most || passed < most-2 {
		t.Errorf("%d of one source, want %d", passed, most)
	}
	now := epoch.Add(2 * time.Second)
	for range 100 { // a household that starts again
		if !d.pass(0xc3, at("44.0.0.2"), now) {
			t.Fatal("another source is refused")
		}
	}
	passed = 0
	for i := range 200_000 { // as many sources as packets, two seconds
		if d.pass(0xe3, netip.AddrPortFrom(netip.AddrFrom4([4]byte{45, byte(i >> 16), byte(i >> 8), byte(i)}), 9), now.Add(time.Duration(i)*10*time.Microsecond)) {
			passed++
		}
		if i%50 == 0 && !d.pass(0x40, at("44.0.9.1"), now.Add(time.Duration(i)*10*time.Microsecond)) {
			t.Fatal("a packet of a connection is refused") // 2,000 a second
		}
	}
	if most := int(firstAllowance.all.burst + 2*firstAllowance.all.rate + firstAllowance.fresh.burst + 2*firstAllowance.fresh.rate); passed > most || len(d.first.by) > stepSources {
		t.Errorf("%d of all sources, want %d; %d are known", passed, most, len(d.first.by))
	}
	passed = 0
	for i := range 200_000 { // of connections that are not there
		if d.pass(0x41, netip.AddrPortFrom(netip.AddrFrom4([4]byte{45, byte(i >> 16), byte(i >> 8), byte(i)}), 9), now.Add(time.Duration(i)*10*time.Microsecond)) {
			passed++
		}
	}
	if most := int(otherAllowance.all.burst + 2*otherAllowance.all.rate + otherAllowance.fresh.burst + 2*otherAllowance.fresh.rate); passed > most || len(d.other.by) > stepSources {
		t.Errorf("%d packets of unknown connections, want %d", passed, most)
	}
	passed = 0
	for i := range 200_000 { // of one who is connected
		if d.pass(0x41, at("44.0.9.1"), now.Add(4*time.Second+time.Duration(i)*10*time.Microsecond)) {
			passed++
		}
	}
	if most := int(memberAllowance.one.burst + 2*memberAllowance.one.rate); passed > most || passed < most-2 {
		t.Errorf("%d packets of a neighbour, want %d", passed, most)
	}
	if !d.pass(0xc3, at("44.0.0.3"), now.Add(5*time.Second)) || !d.pass(0x41, at("44.0.0.3"), now.Add(5*time.Second)) {
		t.Error("the step is crowded for ever")
	}
}

// TestConnectedFrom: addresses are known for as long as somebody is connected
// from them by QUIC.
func TestConnectedFrom(t *testing.T) {
	a, b := startNode(t, loopback(t)), startNode(t, loopback(t))
	p := openPair(t, a, b)
	at := inside(p.b).link.way.Load().to
	if !b.guard.addresses.has(at) || b.guard.addresses.has(netip.AddrPortFrom(at.Addr(), at.Port()^1)) {
		t.Error("the address of a peer is not known, or another is")
	}
	if err := a.swarm.ClosePeer(b.host.ID()); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the address is forgotten", func() bool { return !b.guard.addresses.has(at) })
}

// TestFloodsAllocateNothing: what every packet passes takes no memory, whether
// it passes or not.
func TestFloodsAllocateNothing(t *testing.T) {
	member, stranger := netip.MustParseAddrPort("44.0.9.1:9"), netip.MustParseAddrPort("[2a00::1]:9")
	var book addressBook
	book.now.Store(&map[netip.AddrPort]bool{member: true})
	s := sieve{sockets: map[*kernelSocket]bool{{}: true}, barred: bars{by: [packetClasses]map[netip.AddrPort]time.Time{
		voicePacket: {barOf(voicePacket, stranger): epoch.Add(time.Hour)},
	}}}
	d := doorstep{known: book.find}
	now := epoch
	for name, f := range map[string]func(){
		"a member's packet":     func() { d.pass(0x40, member, now) },
		"a stranger's packet":   func() { d.pass(0x40, stranger, now) },
		"a beginning":           func() { d.pass(0xc0, stranger, now) },
		"a refusal":             func() { s.refuse(firstPacket, stranger, now) },
		"a refusal of a barred": func() { s.refuse(voicePacket, stranger, now) },
	} {
		f() // notes the source
		if n := testing.AllocsPerRun(50, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
