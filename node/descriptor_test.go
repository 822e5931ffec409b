package node

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"teahouse/internal/mesh"
)

// seeded is the private key of 32 equal bytes.
func seeded(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

func seededPeer(b byte) mesh.PeerID {
	return mesh.PeerIDOf(seeded(b).Public().(ed25519.PublicKey))
}

func endpoint(t testing.TB, text string) Endpoint {
	t.Helper()
	_, e, err := ParseEndpoint(text)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// village is a descriptor with something of everything, unsigned.
func village(t testing.TB) *Descriptor {
	return &Descriptor{
		Revision: 3, Issued: time.Unix(1_800_000_000, 0), Expires: time.Unix(1_831_536_000, 0),
		Secret: [32]byte(bytes.Repeat([]byte{0xAB}, 32)), Name: "village",
		Bootstraps: []NamedNode{
			{seededPeer(2), []Endpoint{endpoint(t, "/ip4/44.1.0.2/udp/7654/quic-v1"), endpoint(t, "/ip4/44.1.0.2/tcp/7654")}},
			{seededPeer(3), []Endpoint{endpoint(t, "/ip6/2a00::1/udp/7654/quic-v1"), {Kind: 9, Value: "later"}}},
		},
		Relays:  []RelayTicket{{NamedNode{seededPeer(2), []Endpoint{endpoint(t, "/ip6/2a00::1/tcp/80")}}, time.Unix(1_810_000_000, 0)}},
		Revoked: []mesh.PeerID{seededPeer(4)},
		Policy:  "beyond = \"deny\"\n",
		rest:    []byte{7},
	}
}

func signedVillage(t testing.TB) *Descriptor {
	t.Helper()
	d := village(t)
	if err := d.Sign(seeded(1)); err != nil {
		t.Fatal(err)
	}
	return d
}

// The bytes of docs/protocol.md section 7.
func TestDescriptorBytes(t *testing.T) {
	key := func(b byte) string { return hex.EncodeToString(seeded(b).Public().(ed25519.PublicKey)) }
	want := "01" + key(1) + "0000000000000003" + "000000006b49d200" + "000000006d2b0580" + strings.Repeat("ab", 32) +
		"0007" + "76696c6c616765" +
		"02" + key(2) + "02" + "0206" + "2c010002" + "1de6" + "0106" + "2c010002" + "1de6" +
		key(3) + "02" + "0412" + "2a000000000000000000000000000001" + "1de6" + "0905" + "6c61746572" +
		"01" + "000000006be26880" + key(2) + "01" + "0312" + "2a000000000000000000000000000001" + "0050" +
		"01" + key(4) +
		"0010" + hex.EncodeToString([]byte("beyond = \"deny\"\n")) +
		"0001" + "07"
	d := signedVillage(t)
	got := hex.EncodeToString(d.Document())
	if got[:len(got)-128] != want {
		t.Errorf("body\n got %s\nwant %s", got[:len(got)-128], want)
	}
	// Ed25519ctx is deterministic (RFC 8032), so the signature is pinned too.
	const signature = "2c1dff27796d46c89e8a500847147e8b7ee0dafbf34e232b90f9e910caf6dd59105d05ef8cf0fe0433aa9395f8e8dee19db900f15567f0e06a5001268d827e05"
	if got[len(got)-128:] != signature {
		t.Errorf("signature\n got %s\nwant %s", got[len(got)-128:], signature)
	}
	if id := d.ID(); id != "gr2q7gf5lh6pzfdnurnkvputhm" {
		t.Errorf("network id %s", id)
	}
}

func TestDescriptorThereAndBack(t *testing.T) {
	d := signedVillage(t)
	for name, parse := range map[string]func() (*Descriptor, error){
		"document": func() (*Descriptor, error) { return ParseDescriptor(d.Document()) },
		"link":     func() (*Descriptor, error) { return ParseLink(d.Link()) },
		"capitals": func() (*Descriptor, error) { return ParseLink(strings.ToUpper(d.Link())) },
		"wrapped": func() (*Descriptor, error) {
			link := d.Link()
			return ParseLink("# a network\n " + link[:40] + "\r\n\t" + link[40:90] + " " + link[90:] + "\n# end\n")
		},
	} {
		got, err := parse()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if fmt.Sprintf("%#v", *got) != fmt.Sprintf("%#v", *d) || !bytes.Equal(got.Document(), d.Document()) {
			t.Errorf("%s: another descriptor came back", name)
		}
	}
	if got := d.Peers(); !slices.Equal(got, []string{
		"/ip4/44.1.0.2/udp/7654/quic-v1/p2p/" + peerName(seededPeer(2)), "/ip4/44.1.0.2/tcp/7654/p2p/" + peerName(seededPeer(2)),
		"/ip6/2a00::1/udp/7654/quic-v1/p2p/" + peerName(seededPeer(3)),
	}) {
		t.Errorf("peers %v", got)
	}
	if _, err := bootstrapPeers(d.Peers(), ""); err != nil {
		t.Errorf("a node does not take the peers: %v", err)
	}
}

// No bit can be changed, and no byte added or taken.
func TestDescriptorForged(t *testing.T) {
	document := signedVillage(t).Document()
	for i := range document {
		for bit := range 8 {
			forged := bytes.Clone(document)
			forged[i] ^= 1 << bit
			if _, err := ParseDescriptor(forged); !errors.Is(err, ErrForged) && !errors.Is(err, ErrMalformed) {
				t.Fatalf("bit %d of byte %d changed: %v", bit, i, err)
			}
		}
	}
	for n := range document {
		if _, err := ParseDescriptor(document[:n]); err == nil {
			t.Fatalf("%d bytes pass for all", n)
		}
	}
	if _, err := ParseDescriptor(append(bytes.Clone(document), 0)); err == nil {
		t.Error("a byte more passes")
	}
	// The signature of the right key over the right bytes, for another purpose.
	body := document[:len(document)-64]
	for _, context := range []string{"", "teahouse/entry/1"} {
		sig, err := seeded(1).Sign(nil, body, &ed25519.Options{Hash: crypto.Hash(0), Context: context})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseDescriptor(append(bytes.Clone(body), sig...)); !errors.Is(err, ErrForged) {
			t.Errorf("signed with the context %q: %v", context, err)
		}
	}
}

func TestDescriptorRules(t *testing.T) {
	for name, change := range map[string]func(*Descriptor){
		"revision 0":           func(d *Descriptor) { d.Revision = 0 },
		"revision 2^63":        func(d *Descriptor) { d.Revision = 1 << 63 },
		"expires when issued":  func(d *Descriptor) { d.Expires = d.Issued },
		"expires in 36,000 AD": func(d *Descriptor) { d.Expires = time.Unix(1<<40, 0) },
		"issued before 1970":   func(d *Descriptor) { d.Issued = time.Unix(-1, 0) },
		"no name":              func(d *Descriptor) { d.Name = "" },
		"long name":            func(d *Descriptor) { d.Name = strings.Repeat("x", 65) },
		"lan":                  func(d *Descriptor) { d.Name = "LAN" },
		"an id as a name":      func(d *Descriptor) { d.Name = NetworkID(d.Root) },
		"a flag as a name":     func(d *Descriptor) { d.Name = "--home" },
		"two spaces":           func(d *Descriptor) { d.Name = "a  b" },
		"a new line":           func(d *Descriptor) { d.Name = "a\nb" },
		"an invisible letter":  func(d *Descriptor) { d.Name = "vill\u200bage" },
		"not UTF-8":            func(d *Descriptor) { d.Name = "\xff" },
		"17 bootstraps":        func(d *Descriptor) { d.Bootstraps = manyNodes(t, 17) },
		"65 revoked":           func(d *Descriptor) { d.Revoked = manyPeers(65) },
		"a bootstrap twice":    func(d *Descriptor) { d.Bootstraps[1].Peer = d.Bootstraps[0].Peer },
		"a revoked node twice": func(d *Descriptor) { d.Revoked = append(d.Revoked, d.Revoked[0]) },
		"a revoked bootstrap":  func(d *Descriptor) { d.Revoked[0] = d.Bootstraps[0].Peer },
		"a revoked relay":      func(d *Descriptor) { d.Bootstraps = nil; d.Revoked[0] = d.Relays[0].Peer },
		"no address":           func(d *Descriptor) { d.Bootstraps[0].Addrs = nil },
		"an address twice":     func(d *Descriptor) { d.Bootstraps[0].Addrs[1] = d.Bootstraps[0].Addrs[0] },
		"port 0":               func(d *Descriptor) { d.Bootstraps[0].Addrs[0] = at(t, "44.1.0.2:0") },
		"any address":          func(d *Descriptor) { d.Bootstraps[0].Addrs[0] = at(t, "0.0.0.0:7654") },
		"multicast":            func(d *Descriptor) { d.Bootstraps[0].Addrs[0] = at(t, "224.0.0.1:7654") },
		"link-local":           func(d *Descriptor) { d.Bootstraps[0].Addrs[0] = at(t, "[fe80::1]:7654") },
		"IPv4 in IPv6": func(d *Descriptor) {
			d.Bootstraps[0].Addrs[0] = Endpoint{TCP6, string(make([]byte, 10)) + "\xff\xff\x2c\x01\x00\x02\x1d\xe6"}
		},
		"a short address":       func(d *Descriptor) { d.Bootstraps[0].Addrs[0] = Endpoint{TCP4, "1234"} },
		"an empty address":      func(d *Descriptor) { d.Bootstraps[0].Addrs[0] = Endpoint{9, ""} },
		"kind 0":                func(d *Descriptor) { d.Bootstraps[0].Addrs[0] = Endpoint{0, "123456"} },
		"a ticket out of range": func(d *Descriptor) { d.Relays[0].Expires = time.Unix(1<<40, 0) },
		"a long policy":         func(d *Descriptor) { d.Policy = strings.Repeat("#", 4097) },
		"a policy with zeros":   func(d *Descriptor) { d.Policy = "\x00" },
		"too much for one":      func(d *Descriptor) { fill(t, d) },
	} {
		t.Run(name, func(t *testing.T) {
			d := signedVillage(t)
			change(d)
			if err := d.Sign(seeded(1)); !errors.Is(err, ErrMalformed) {
				t.Errorf("signed: %v", err)
			}
			// Nor does anybody read it: a root key breaks the rules no more than others.
			d.Root = seeded(1).Public().(ed25519.PublicKey)
			body := d.body()
			sig, err := seeded(1).Sign(nil, body, &ed25519.Options{Hash: crypto.Hash(0), Context: descriptorContext})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ParseDescriptor(append(body, sig...)); !errors.Is(err, ErrMalformed) {
				t.Errorf("read: %v", err)
			}
		})
	}
}

func at(t *testing.T, text string) Endpoint {
	t.Helper()
	return EndpointAt(netip.MustParseAddrPort(text), false)
}

func manyPeers(n int) (out []mesh.PeerID) {
	for i := range n {
		out = append(out, seededPeer(byte(100+i)))
	}
	return out
}

func manyNodes(t *testing.T, n int) (out []NamedNode) {
	for _, p := range manyPeers(n) {
		out = append(out, NamedNode{p, []Endpoint{at(t, "44.1.0.2:7654")}})
	}
	return out
}

// fill makes a descriptor in which each part is within its bounds, and all
// together are not.
func fill(t *testing.T, d *Descriptor) {
	d.Revoked, d.Bootstraps, d.Relays = nil, manyNodes(t, 16), nil
	for i := range d.Bootstraps {
		for j := range 7 {
			d.Bootstraps[i].Addrs = append(d.Bootstraps[i].Addrs, Endpoint{9, strings.Repeat("x", 63) + string(rune('a'+j))})
		}
	}
	d.Policy, d.rest = strings.Repeat("#", MaxPolicy), make([]byte, maxRest)
	for _, n := range d.Bootstraps {
		d.Relays = append(d.Relays, RelayTicket{n, d.Expires})
	}
}

func TestDescriptorReplaces(t *testing.T) {
	old := signedVillage(t)
	now := old.Issued.Add(time.Hour)
	for name, c := range map[string]struct {
		change func(*Descriptor)
		root   byte
		now    time.Time
		want   error
	}{
		"the next":                          {func(*Descriptor) {}, 1, now, nil},
		"a leap":                            {func(d *Descriptor) { d.Revision = 1 << 40 }, 1, now, nil},
		"the same again":                    {func(d *Descriptor) { d.Revision = 3 }, 1, now, ErrRolledBack},
		"rolled back":                       {func(d *Descriptor) { d.Revision = 2 }, 1, now, ErrRolledBack},
		"another root":                      {func(*Descriptor) {}, 2, now, ErrOtherNetwork},
		"another secret":                    {func(d *Descriptor) { d.Secret[0]++ }, 1, now, ErrOtherNetwork},
		"a second too late":                 {func(*Descriptor) {}, 1, old.Expires, ErrExpired},
		"a second in time":                  {func(*Descriptor) {}, 1, old.Expires.Add(-time.Second), nil},
		"issued by our clock in the future": {func(*Descriptor) {}, 1, old.Issued.Add(-time.Hour), nil},
	} {
		d := old.Revise(old.Issued)
		c.change(d)
		if err := d.Sign(seeded(c.root)); err != nil {
			t.Fatal(err)
		}
		if err := d.Replaces(old, c.now); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// A revision shares nothing with what it was made of.
func TestDescriptorRevise(t *testing.T) {
	old := signedVillage(t)
	before := old.Document()
	d := old.Revise(old.Issued.Add(90 * time.Minute))
	d.Bootstraps[0] = NamedNode{seededPeer(7), []Endpoint{at(t, "44.2.0.2:1")}}
	d.Relays, d.Revoked[0], d.rest[0] = d.Relays[:0], seededPeer(8), 9
	if err := d.Sign(seeded(1)); err != nil {
		t.Fatal(err)
	}
	if old.check() != nil || !bytes.Equal(old.body(), before[:len(before)-64]) {
		t.Error("the old descriptor has changed")
	}
	if d.Revision != 4 || !d.Issued.Equal(time.Unix(1_800_005_400, 0)) {
		t.Errorf("%v, issued %v", d, d.Issued)
	}
}

func TestDescriptorIsSilent(t *testing.T) {
	d := signedVillage(t)
	for _, format := range []string{"%v", "%+v", "%s", "%d", "%x"} {
		text := fmt.Sprintf(format, d)
		if !strings.HasPrefix(text, "descriptor ") || strings.Contains(text, "abab") || strings.Contains(text, "village") {
			t.Errorf("%s prints %q", format, text)
		}
	}
}

func TestEndpoints(t *testing.T) {
	for _, text := range []string{"/ip4/44.1.0.2/tcp/1", "/ip4/127.0.0.1/udp/65535/quic-v1", "/ip6/2a00::1/tcp/80", "/ip6/::1/udp/7654/quic-v1"} {
		if a, ok := endpoint(t, text).Addr(); !ok || string(a) != text {
			t.Errorf("%s came back as %s", text, a)
		}
	}
	for _, text := range []string{"", "/dns4/example.org/tcp/1", "/ip4/0.0.0.0/tcp/1", "/ip4/44.1.0.2/tcp/0", "/ip4/44.1.0.2/udp/1", "/ip4/44.1.0.2", "/p2p/12D3KooWBhQbXfjFxjHDiSmXmjVQFKsoFZ1K4UBPTd8Dhi4x5W4A"} {
		if _, e, err := ParseEndpoint(text); err == nil {
			t.Errorf("%q passes for %v", text, e)
		}
	}
}

func TestMembership(t *testing.T) {
	n := signedVillage(t).Network()
	a, b, challenge := seededPeer(1), seededPeer(2), [32]byte{1, 2, 3}
	proof := n.MembershipProof(a, b, challenge)
	if got := hex.EncodeToString(proof[:]); got != "094c2a40a527aef69181e73652a5f215c57e6914924441b0faab9a2d262ffcee" {
		t.Errorf("proof %s", got)
	}
	if !n.VerifyMembership(a, b, challenge, proof) {
		t.Error("a true proof is refused")
	}
	other := n
	other.Secret[31]++
	changed := proof
	changed[0] ^= 1
	for name, passes := range map[string]bool{
		"as the other's":      n.VerifyMembership(b, a, challenge, proof),
		"a third one's":       n.VerifyMembership(seededPeer(3), b, challenge, proof),
		"to a third one":      n.VerifyMembership(a, seededPeer(3), challenge, proof),
		"another challenge":   n.VerifyMembership(a, b, [32]byte{1, 2, 4}, proof),
		"another network":     other.VerifyMembership(a, b, challenge, proof),
		"a changed bit":       n.VerifyMembership(a, b, challenge, changed),
		"no proof":            n.VerifyMembership(a, b, challenge, [32]byte{}),
		"bytes moved between": n.VerifyMembership(a+b[:1], b[1:], challenge, proof),
	} {
		if passes {
			t.Errorf("%s passes", name)
		}
	}
}

// What is read is written back byte by byte, or refused with a known error.
func FuzzDescriptor(f *testing.F) {
	d := village(f)
	if err := d.Sign(seeded(1)); err != nil {
		f.Fatal(err)
	}
	body := d.Document()
	f.Add(body[:len(body)-64])
	small := &Descriptor{Revision: 1, Issued: time.Unix(0, 0), Expires: time.Unix(1, 0), Name: "x"}
	if err := small.Sign(seeded(1)); err != nil {
		f.Fatal(err)
	}
	f.Add(small.body())
	f.Add([]byte{})
	root := seeded(1)
	f.Fuzz(func(t *testing.T, body []byte) {
		if _, err := ParseDescriptor(body); err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrForged) {
			t.Fatal(err)
		}
		// Signed, so that the fuzzer gets past the signature.
		if len(body) > 33 {
			copy(body[1:], root.Public().(ed25519.PublicKey))
		}
		sig, err := root.Sign(nil, body, &ed25519.Options{Hash: crypto.Hash(0), Context: descriptorContext})
		if err != nil {
			t.Fatal(err)
		}
		d, err := ParseDescriptor(append(bytes.Clone(body), sig...))
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatal(err)
			}
			return
		}
		if !bytes.Equal(d.body(), body) {
			t.Fatalf("%x was written back as %x", body, d.body())
		}
		again := *d
		if err := again.Sign(root); err != nil || !bytes.Equal(again.signed, d.signed) {
			t.Fatalf("cannot be signed again: %v", err)
		}
		if back, err := ParseLink(d.Link()); err != nil || !bytes.Equal(back.signed, d.signed) {
			t.Fatalf("lost by its link: %v", err)
		}
		if _, err := bootstrapPeers(d.Peers(), ""); err != nil && len(d.Bootstraps) <= MaxBootstraps {
			t.Fatalf("no node takes its bootstraps: %v", err)
		}
	})
}

func FuzzLink(f *testing.F) {
	d := village(f)
	if err := d.Sign(seeded(1)); err != nil {
		f.Fatal(err)
	}
	f.Add(d.Link())
	f.Add("# c\nTEAHOUSE:NET/AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := ParseLink(text)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrForged) {
				t.Fatal(err)
			}
			return
		}
		if back, err := ParseLink(d.Link()); err != nil || !bytes.Equal(back.signed, d.signed) {
			t.Fatalf("lost by its own link: %v", err)
		}
	})
}

func peerName(p mesh.PeerID) string { return peer.ID(p).String() }
