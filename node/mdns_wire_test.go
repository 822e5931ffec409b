package node

import (
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const testPeer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN"

// The bytes that other versions have to understand.
func TestMDNSBytes(t *testing.T) {
	query, err := mdnsQuery([]string{lanService})
	if err != nil {
		t.Fatal(err)
	}
	a := mdnsAnswer{service: lanService, instance: "abc", ttl: mdnsTTL, addrs: []string{"/ip4/10.0.0.1/tcp/1"}}
	answer, err := a.marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what string
		got  []byte
		want string
	}{
		{"query", query, "000000000001000000000000" +
			"0d" + hex.EncodeToString([]byte("_teahouse-lan")) + "04" + hex.EncodeToString([]byte("_udp")) +
			"05" + hex.EncodeToString([]byte("local")) + "00" + "000c" + "0001"},
		{"answer", answer, "000084000000000200000000" +
			"0d" + hex.EncodeToString([]byte("_teahouse-lan")) + "04" + hex.EncodeToString([]byte("_udp")) +
			"05" + hex.EncodeToString([]byte("local")) + "00" + "000c" + "0001" + "00000078" + "0006" + "03" + hex.EncodeToString([]byte("abc")) + "c00c" +
			"c030" + "0010" + "8001" + "00000078" + "001c" + "1b" + hex.EncodeToString([]byte("dnsaddr=/ip4/10.0.0.1/tcp/1"))},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.what, got, c.want)
		}
	}
}

func TestMDNSRoundTrip(t *testing.T) {
	services := testNetwork.mdnsServices(time.Unix(86400*20000+100, 0))
	b, err := mdnsQuery(services)
	if err != nil {
		t.Fatal(err)
	}
	if m, err := parseMDNS(b); err != nil || !slices.Equal(m.asks, services) || m.answers != nil {
		t.Errorf("query: %+v, %v", m, err)
	}
	var many []string
	for range maxMDNSAddrs {
		many = append(many, "/ip6/fd00:1111:2222:3333:4444:5555:6666:7777/udp/65535/quic-v1/p2p/"+testPeer)
	}
	a := mdnsAnswer{service: services[0], instance: "26lettersabcdefghijklmnopq", ttl: 7 * time.Second, addrs: many}
	if b, err = a.marshal(); err != nil {
		t.Fatal(err)
	}
	if len(b) > 1400 {
		t.Errorf("the largest answer has %d bytes: too long for one packet", len(b))
	}
	m, err := parseMDNS(b)
	if err != nil || len(m.answers) != 1 || !reflect.DeepEqual(m.answers[0], a) {
		t.Errorf("answer: %+v, %v", m, err)
	}
}

// Case does not count in names (RFC 6762 section 16), nor does the bit that
// asks for an answer to the sender alone.
func TestMDNSForeignSpelling(t *testing.T) {
	q := dnsmessage.Message{Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName(strings.ToUpper(lanService)), Type: dnsmessage.TypeALL, Class: 0x8001,
	}, {Name: dnsmessage.MustNewName(lanService), Type: dnsmessage.TypeA, Class: 1}, {Name: dnsmessage.MustNewName(lanService), Type: dnsmessage.TypePTR, Class: 3}}}
	b, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	if m, err := parseMDNS(b); err != nil || !slices.Equal(m.asks, []string{lanService}) {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestMDNSBounds(t *testing.T) {
	head := func(n string) dnsmessage.ResourceHeader {
		return dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(n), Class: dnsmessage.ClassINET, TTL: 5}
	}
	ptr := func(n string) dnsmessage.Resource {
		return dnsmessage.Resource{Header: head(lanService), Body: &dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(n)}}
	}
	txt := func(n string, text ...string) dnsmessage.Resource {
		return dnsmessage.Resource{Header: head(n), Body: &dnsmessage.TXTResource{TXT: text}}
	}
	flood := make([]dnsmessage.Resource, maxMDNSRecords+1)
	for i := range flood {
		flood[i] = txt("x." + lanService)
	}
	long := dnsaddr + strings.Repeat("x", maxMDNSText)
	var twenty []string
	for range 20 {
		twenty = append(twenty, "dnsaddr=/a")
	}
	for _, c := range []struct {
		what    string
		records []dnsmessage.Resource
		addrs   int // of the one instance; -1: none
		bad     bool
	}{
		{"in any order", []dnsmessage.Resource{txt("x."+lanService, "dnsaddr=/a"), ptr("x." + lanService)}, 1, false},
		{"no description", []dnsmessage.Resource{ptr("x." + lanService)}, -1, false},
		{"no service", []dnsmessage.Resource{txt("x."+lanService, "dnsaddr=/a")}, -1, false},
		{"an instance of another service", []dnsmessage.Resource{ptr("x.other.local."), txt("x.other.local.", "dnsaddr=/a")}, -1, false},
		{"the service as its own instance", []dnsmessage.Resource{ptr(lanService), txt(lanService, "dnsaddr=/a")}, -1, false},
		{"other text", []dnsmessage.Resource{ptr("x." + lanService), txt("x."+lanService, "path=/", "", long+"y", long)}, 1, false},
		{"many addresses", []dnsmessage.Resource{ptr("x." + lanService), txt("x."+lanService, twenty...)}, maxMDNSAddrs, false},
		{"many records", append(flood, ptr("x."+lanService)), -1, true},
	} {
		t.Run(c.what, func(t *testing.T) {
			msg := dnsmessage.Message{Header: dnsmessage.Header{Response: true}, Answers: c.records[:1], Additionals: c.records[1:]}
			b, err := msg.Pack()
			if err != nil {
				t.Fatal(err)
			}
			m, err := parseMDNS(b)
			switch {
			case (err != nil) != c.bad:
				t.Fatal(err)
			case c.addrs < 0 && len(m.answers) != 0, c.addrs >= 0 && (len(m.answers) != 1 || len(m.answers[0].addrs) != c.addrs):
				t.Errorf("%+v", m)
			}
		})
	}
	for _, b := range [][]byte{nil, make([]byte, 11), make([]byte, maxMDNSMessage+1)} {
		if _, err := parseMDNS(b); err == nil {
			t.Errorf("took %d bytes", len(b))
		}
	}
}

// Elsewhere than on lan the service of a day tells neither the network nor
// the day before.
func TestMDNSServices(t *testing.T) {
	midnight := time.Unix(86400*20000, 0)
	day := func(n Network, d int64) string { return n.mdnsService(20000 + d) }
	other := NetworkFromSeed([32]byte{4})
	for _, c := range []struct {
		after time.Duration
		want  []string
	}{
		{0, []string{day(testNetwork, 0), day(testNetwork, -1)}},
		{2 * time.Hour, []string{day(testNetwork, 0)}},
		{22*time.Hour - 1, []string{day(testNetwork, 0)}},
		{22 * time.Hour, []string{day(testNetwork, 0), day(testNetwork, 1)}},
	} {
		if got := testNetwork.mdnsServices(midnight.Add(c.after)); !slices.Equal(got, c.want) {
			t.Errorf("%v after midnight: %v, want %v", c.after, got, c.want)
		}
	}
	all := map[string]bool{day(testNetwork, 0): true, day(testNetwork, 1): true, day(other, 0): true, day(other, 1): true}
	if len(all) != 4 {
		t.Errorf("services meet: %v", all)
	}
	for s := range all {
		if label, _, _ := strings.Cut(s, "."); len(label) > 16 || strings.Contains(testNetwork.ID, label[1:]) {
			t.Errorf("service %s", s)
		}
	}
	if got := LAN().mdnsServices(midnight); !slices.Equal(got, []string{lanService}) {
		t.Errorf("lan: %v", got)
	}
	const golden = "_r6qrsbt2wlv7i._udp.local."
	if got := day(testNetwork, 0); got != golden {
		t.Errorf("day 20000: %s, want %s", got, golden)
	}
}

func FuzzMDNS(f *testing.F) {
	q, _ := mdnsQuery([]string{lanService})
	f.Add(q)
	a := mdnsAnswer{service: lanService, instance: "abc", ttl: mdnsTTL, addrs: []string{"/ip4/10.0.0.1/udp/7/quic-v1/p2p/" + testPeer}}
	b, _ := a.marshal()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMDNS(b)
		if err != nil {
			if m.asks != nil || m.answers != nil {
				t.Error("something of a message that was refused")
			}
			return
		}
		if len(m.asks) > maxMDNSQuestions || len(m.answers) > maxMDNSRecords {
			t.Errorf("%d questions, %d answers", len(m.asks), len(m.answers))
		}
		for _, a := range m.answers {
			if len(a.addrs) > maxMDNSAddrs || a.instance == "" {
				t.Errorf("answer %+v", a)
			}
			l := lan{prefixes: prefixes("10.0.0.2/8", "fd00::2/8")}
			info, ok := l.believed(a.addrs)
			for _, addr := range info.Addrs {
				if ip, _ := ipOf(addr); !l.onLink(ip) || kindOf(addr) == 0 || !ok {
					t.Errorf("believed %s", addr)
				}
			}
		}
	})
}
