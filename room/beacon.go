package room

import (
	"crypto/rand"

	"teahouse/internal/mesh"
	"teahouse/internal/seal"
)

// What members of a room say by gossip, docs/protocol.md section 2. Both kinds
// have one length each, whatever they bear.
//
//	beacon         01 ‖ nonce 24 ‖ XChaCha20-Poly1305(beacon key, nonce, body, topic ‖ 01)
//	sealed roster  02 ‖ epoch tag 4 ‖ nonce 24 ‖ XChaCha20-Poly1305(roster key, nonce, body, topic ‖ 02 ‖ epoch tag)
//
//	body of a beacon         L(peer id) ‖ u8 n ‖ n × L(address), then zeros to 512 bytes
//	body of a sealed roster  an entry, then zeros to 512 bytes
const (
	broadcastBeacon = 1
	broadcastRoster = 2

	broadcastBody = 512
	beaconLen     = 1 + seal.NonceSizeX + broadcastBody + seal.Overhead
	rosterLen     = 1 + 4 + seal.NonceSizeX + broadcastBody + seal.Overhead

	maxBeaconAddrs = 8
)

// beaconBox seals and opens beacons of one room. It may be used from several
// goroutines at once.
type beaconBox struct{ key *seal.Key }

func newBeaconBox(s *Secret) *beaconBox { return &beaconBox{s.beaconKey()} }

// seal gives the beacon that says where self is, with as many of its addresses
// as there is room for, the first ones first.
func (b *beaconBox) seal(topic string, self mesh.Peer) []byte {
	body := make([]byte, 0, broadcastBody)
	body = appendLP(body, string(self.ID))
	body = appendAddrs(body, self.Addrs, maxBeaconAddrs, broadcastBody)
	return sealBroadcast(b.key, topic, []byte{broadcastBeacon}, body)
}

// open gives what the beacon says, if it was sealed for this topic and names
// the peer from which signed the gossip message.
func (b *beaconBox) open(topic string, from mesh.PeerID, data []byte) (mesh.Peer, error) {
	data = cutBeaconTrailer(data)
	if len(data) != beaconLen || data[0] != broadcastBeacon {
		return mesh.Peer{}, errMalformed
	}
	body, err := openBroadcast(b.key, topic, data[:1], data[1:])
	if err != nil {
		return mesh.Peer{}, err
	}
	r := reader{b: body}
	id := r.lp(mesh.PeerIDLen, mesh.PeerIDLen)
	addrs := r.addrs(maxBeaconAddrs)
	if r.bad || !zeros(r.b) || mesh.PeerID(id) != from {
		return mesh.Peer{}, errMalformed
	}
	return mesh.Peer{ID: from, Addrs: addrs}, nil
}

// rosterBox seals and opens the roster entries that travel by gossip in one
// epoch. It may be used from several goroutines at once.
type rosterBox struct {
	epoch tag
	key   *seal.Key
}

func newRosterBox(s *epochSecret) *rosterBox { return &rosterBox{epoch: s.tag(), key: s.rosterKey()} }

// seal gives the broadcast that bears e.
func (b *rosterBox) seal(topic string, e *entry) []byte {
	head := append([]byte{broadcastRoster}, b.epoch[:]...)
	return sealBroadcast(b.key, topic, head, e.append(make([]byte, 0, broadcastBody)))
}

// open gives the entry that a sealed roster bears. The caller must verify it.
func (b *rosterBox) open(topic string, data []byte) (entry, error) {
	if epoch, ok := sealedRosterEpoch(data); !ok || epoch != b.epoch {
		return entry{}, errMalformed
	}
	body, err := openBroadcast(b.key, topic, data[:5], data[5:])
	if err != nil {
		return entry{}, err
	}
	e, rest, err := decodeEntry(body)
	if err != nil || !zeros(rest) {
		return entry{}, errMalformed
	}
	return e, nil
}

// sealedRosterEpoch tells under which epoch a broadcast claims to be sealed;
// ok is false if it is no sealed roster.
func sealedRosterEpoch(data []byte) (epoch tag, ok bool) {
	if len(data) != rosterLen || data[0] != broadcastRoster {
		return tag{}, false
	}
	return tag(data[1:5]), true
}

// isBeacon tells whether a broadcast has the outside of a beacon.
func isBeacon(data []byte) bool {
	data = cutBeaconTrailer(data)
	return len(data) == beaconLen && data[0] == broadcastBeacon
}

// sealBroadcast pads body and gives head ‖ nonce ‖ box.
func sealBroadcast(key *seal.Key, topic string, head, body []byte) []byte {
	padded := make([]byte, broadcastBody)
	copy(padded, body)
	out := make([]byte, len(head)+seal.NonceSizeX, len(head)+seal.NonceSizeX+broadcastBody+seal.Overhead)
	nonce := out[copy(out, head):]
	_, _ = rand.Read(nonce) // never fails: crypto/rand
	return key.Seal(out, nonce, padded, append([]byte(topic), head...))
}

// openBroadcast opens nonce ‖ box.
func openBroadcast(key *seal.Key, topic string, head, box []byte) ([]byte, error) {
	nonce, sealed := box[:seal.NonceSizeX], box[seal.NonceSizeX:]
	return key.Open(nil, nonce, sealed, append([]byte(topic), head...))
}

// maxAddr is the longest address that travels, in bytes.
const maxAddr = 200

// appendAddrs appends u8 n ‖ n × L(address): the first addresses of the
// right form, at most most of them, so that dst stays within limit bytes.
func appendAddrs(dst []byte, addrs []mesh.Addr, most, limit int) []byte {
	count := len(dst)
	dst = append(dst, 0)
	for _, a := range addrs {
		if int(dst[count]) == most {
			break
		}
		if validAddr([]byte(a)) && len(dst)+2+len(a) <= limit {
			dst = appendLP(dst, string(a))
			dst[count]++
		}
	}
	return dst
}

// addrs takes what appendAddrs wrote.
func (r *reader) addrs(most int) []mesh.Addr {
	n := int(r.u8())
	if n > most {
		r.bad, r.b = true, nil
		return nil
	}
	var out []mesh.Addr
	for range n {
		a := r.lp(1, maxAddr)
		if !validAddr(a) {
			r.bad, r.b = true, nil
			return nil
		}
		out = append(out, mesh.Addr(a))
	}
	return out
}

// validAddr tells whether a may be an address: printable ASCII without spaces.
func validAddr(a []byte) bool {
	for _, c := range a {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(a) > 0 && len(a) <= maxAddr
}
