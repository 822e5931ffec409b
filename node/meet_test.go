package node

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

func somebody(i int) peer.ID { return peer.ID(binary.BigEndian.AppendUint32(nil, uint32(i))) }

func TestAcquaintancesAreBounded(t *testing.T) {
	table := make(acquaintances)
	addrs := multiaddrs(t, "/ip4/10.0.0.1/tcp/7")
	source := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 1, byte(i)}) }
	took := 0
	for i := range 1000 {
		if table.add(epoch, epoch, somebody(i), addrs, source(0), time.Minute) {
			took++
		}
	}
	if took != maxPerSource {
		t.Errorf("took %d peers from one machine", took)
	}
	for i := range 5000 {
		table.add(epoch, epoch, somebody(1000+i), addrs, source(i%250), time.Minute)
	}
	if len(table) != maxAcquaintances {
		t.Errorf("%d peers", len(table))
	}
	// A full table makes room by those who were tried in vain, or ran out.
	if table.add(epoch, epoch, somebody(9000), addrs, netip.Addr{}, time.Minute) {
		t.Error("put somebody out who was never tried")
	}
	for _, info := range table.due(epoch, 1, func(peer.ID) bool { return false }) {
		table.tried(epoch, info.ID, false)
	}
	if !table.add(epoch, epoch, somebody(9000), addrs, netip.Addr{}, time.Minute) || len(table) != maxAcquaintances {
		t.Error("no room by one that was tried in vain")
	}
	if !table.add(epoch.Add(2*time.Minute), epoch, somebody(9001), addrs, source(0), time.Minute) || len(table) != 1 {
		t.Errorf("%d peers after all have run out", len(table))
	}
	var many []ma.Multiaddr
	for i := range 30 {
		many = append(many, multiaddrs(t, fmt.Sprintf("/ip4/10.0.0.%d/tcp/7", i+1))...)
	}
	table.add(epoch, epoch, somebody(9001), many, source(0), time.Minute)
	if n := len(table[somebody(9001)].addrs); n != maxAcquaintanceAddrs {
		t.Errorf("%d addresses of one peer", n)
	}
}

func TestAcquaintancesBackOff(t *testing.T) {
	table := make(acquaintances)
	addrs := multiaddrs(t, "/ip4/10.0.0.1/tcp/7")
	nobody := func(peer.ID) bool { return false }
	p := somebody(1)
	table.add(epoch, epoch.Add(time.Second), p, addrs, netip.Addr{}, time.Hour)
	if len(table.due(epoch, 4, nobody)) != 0 {
		t.Error("tried before its time")
	}
	tries := 0
	for now := epoch; now.Before(epoch.Add(time.Hour)); now = now.Add(time.Second) {
		for range table.due(now, 4, nobody) {
			tries++
			if again := table.due(now, 4, nobody); len(again) != 0 {
				t.Fatal("tried twice at once")
			}
			table.tried(now.Add(100*time.Millisecond), p, false)
		}
	}
	if tries < 25 || tries > 50 {
		t.Errorf("%d tries in an hour", tries)
	}
	if table.due(epoch.Add(2*time.Hour), 4, nobody); len(table) != 0 {
		t.Error("not given up after an hour")
	}
	// Who is connected is not tried; who was and no longer is, soon.
	table.add(epoch, epoch, p, addrs, netip.Addr{}, time.Hour)
	if len(table.due(epoch, 4, func(peer.ID) bool { return true })) != 0 {
		t.Error("tried one that is there")
	}
	if len(table.due(epoch.Add(time.Second), 4, nobody)) != 1 {
		t.Error("not tried once it had gone")
	}
	table.tried(epoch.Add(time.Second), p, true)
	if len(table.due(epoch.Add(time.Second), 4, nobody)) != 0 || len(table.due(epoch.Add(time.Second+meetMin), 4, nobody)) != 1 {
		t.Error("a connection that breaks at once is made again at once, or never")
	}
	table.forget(p)
	if len(table) != 1 {
		t.Error("forgot one that is being tried")
	}
	table.tried(epoch, p, false)
	if table.forget(p); len(table) != 0 {
		t.Error("not forgotten")
	}
	table.tried(epoch, p, false) // nobody any more
	for i := range 10 {
		table.add(epoch, epoch, somebody(i), addrs, netip.Addr{}, time.Hour)
	}
	if n := len(table.due(epoch, 4, nobody)); n != 4 {
		t.Errorf("%d at once", n)
	}
}
