package sim

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// voicePacket is one group of consecutive frames, newest first.
func voicePacket(tags string, flow uint8, newest uint32, frames ...string) []byte {
	b := append([]byte{packetVoice, 1}, tags...)
	b = append(b, flow)
	b = binary.BigEndian.AppendUint32(b, newest)
	b = append(b, byte(len(frames)))
	for _, f := range frames {
		b = binary.BigEndian.AppendUint16(b, uint16(len(f)))
		b = append(b, f...)
	}
	return append(b, 0, 0, 0) // padding
}

func datagram(index uint32, counter uint64) []byte {
	b := binary.BigEndian.AppendUint32([]byte{0x21}, index)
	return append(binary.BigEndian.AppendUint64(b, counter), "sealed and tagged"...)
}

func TestNonceWatch(t *testing.T) {
	const key, other = "epochmei", "epochlin"
	beacon := func(nonce byte, body string) []byte {
		return append(append([]byte{1}, bytes.Repeat([]byte{nonce}, 24)...), body...)
	}
	for _, test := range []struct {
		name string
		feed func(n *nonceWatch)
		bad  int
	}{
		{"frames in order, sent to two and again", func(n *nonceWatch) {
			n.voice(voicePacket(key, 0, 7, "seven"))
			n.voice(voicePacket(key, 0, 7, "seven"))
			n.voice(voicePacket(key, 0, 8, "eight", "seven"))
		}, 0},
		{"first seen when sent again", func(n *nonceWatch) { n.voice(voicePacket(key, 0, 8, "eight", "seven")) }, 0},
		{"one number, two frames", func(n *nonceWatch) {
			n.voice(voicePacket(key, 0, 7, "seven"))
			n.voice(voicePacket(key, 0, 7, "other"))
		}, 1},
		{"one number, two frames, one sent again", func(n *nonceWatch) {
			n.voice(voicePacket(key, 0, 7, "seven"))
			n.voice(voicePacket(key, 0, 8, "eight", "other"))
		}, 1},
		{"a counter that begins anew", func(n *nonceWatch) {
			for i := range uint32(100) {
				n.voice(voicePacket(key, 0, i, fmt.Sprint(i)))
			}
			n.voice(voicePacket(key, 0, 0, "again"))
		}, 1},
		{"another flow, another key", func(n *nonceWatch) {
			n.voice(voicePacket(key, 0, 7, "seven"))
			n.voice(voicePacket(key, 1, 7, "other"))
			n.voice(voicePacket(other, 0, 7, "another"))
		}, 0},
		{"datagrams", func(n *nonceWatch) {
			n.datagram(1, datagram(5, 0))
			n.datagram(1, datagram(5, 1))
			n.datagram(2, datagram(5, 1))
			n.datagram(1, datagram(6, 1))
			n.datagram(1, append([]byte{0xc0}, datagram(5, 0)...)) // QUIC's
		}, 0},
		{"a datagram twice", func(n *nonceWatch) {
			n.datagram(1, datagram(5, 1))
			n.datagram(1, datagram(5, 1))
		}, 1},
		{"broadcasts", func(n *nonceWatch) {
			n.broadcast(beacon(1, "here"))
			n.broadcast(beacon(1, "here"))
			n.broadcast(beacon(2, "there"))
		}, 0},
		{"two broadcasts under one nonce", func(n *nonceWatch) {
			n.broadcast(beacon(1, "here"))
			n.broadcast(beacon(1, "there"))
		}, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			bad := 0
			n := newNonceWatch(func(string, ...any) { bad++ })
			test.feed(n)
			if bad != test.bad {
				t.Errorf("%d violations, want %d", bad, test.bad)
			}
			if sealed, _ := n.totals(); sealed == 0 {
				t.Error("nothing was watched")
			}
		})
	}
}

// FuzzGroups: whatever a voice packet holds, no frame reaches beyond it.
func FuzzGroups(f *testing.F) {
	f.Add(voicePacket("epochmei", 0, 7, "seven", "six"))
	f.Add([]byte{packetVoice, 255})
	f.Fuzz(func(t *testing.T, packet []byte) {
		frames := 0
		groups(packet, func(head []byte, _ uint32, frame []byte) {
			frames++
			if len(head) != 9 || len(frame) > len(packet) {
				t.Errorf("head of %d, frame of %d bytes", len(head), len(frame))
			}
		})
		if 2*frames > len(packet) {
			t.Errorf("%d frames in %d bytes", frames, len(packet))
		}
	})
}
