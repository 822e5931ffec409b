package lab

import (
	"bytes"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func TestFindSecrets(t *testing.T) {
	topic := []byte("Zhu Ye Qing 77")
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	junk := func(n int) []byte { b := make([]byte, n); _, _ = rand.Read(b); return b }
	for _, secret := range []Secret{{"topic", topic}, {"key", key}} {
		ways := map[string][]byte{
			"text":    secret.Bytes,
			"lower":   bytes.ToLower(secret.Bytes),
			"hex":     []byte(hex.EncodeToString(secret.Bytes)),
			"HEX":     []byte(strings.ToUpper(hex.EncodeToString(secret.Bytes))),
			"base58":  []byte(base58(secret.Bytes)),
			"b32 own": []byte(strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret.Bytes))),
		}
		for before := range 6 { // inside something longer, at each alignment
			b := append(append(junk(before), secret.Bytes...), junk(7)...)
			ways[fmt.Sprintf("base64 after %d", before)] = []byte(base64.StdEncoding.EncodeToString(b))
			ways[fmt.Sprintf("base64url after %d", before)] = []byte(base64.RawURLEncoding.EncodeToString(b))
			ways[fmt.Sprintf("base32 after %d", before)] = []byte(base32.StdEncoding.EncodeToString(b))
			ways[fmt.Sprintf("base32hex after %d", before)] = []byte(strings.ToLower(base32.HexEncoding.EncodeToString(b)))
		}
		for name, b := range ways {
			raw := append(append(junk(50), b...), junk(50)...)
			found := FindSecrets([]Packet{{Raw: junk(100)}, {Raw: raw, Proto: "udp"}}, []Secret{{"other", junk(16)}, secret})
			if len(found) == 0 || found[0].Secret != secret.Name || !strings.Contains(found[0].Where, "packet 1") {
				t.Errorf("%s as %s: found %v", secret.Name, name, found)
			}
		}
	}
	if found := FindSecrets([]Packet{{Raw: junk(1 << 20)}}, []Secret{{"topic", topic}, {"key", key}}); len(found) > 0 {
		t.Errorf("found in noise: %v", found)
	}
}

// Base58 has a test vector of its own: draft-msporny-base58-03 section 5.
func TestBase58(t *testing.T) {
	if got := string(base58([]byte("Hello World!"))); got != "2NEpo7TZRRrLZSi2U" {
		t.Error(got)
	}
	if got := string(base58([]byte{0, 0, 0x28, 0x7f, 0xb4, 0xcd})); got != "11233QC4" {
		t.Error(got)
	}
}

// frame is an Ethernet frame with TCP.
func frame(seq uint32, payload string) []byte {
	b := make([]byte, 14, 100)
	b[12] = 8
	b = append(b, 0x45, 0, 0, byte(40+len(payload)), 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2)
	b = append(b, 0x10, 0, 0x20, 0) // ports 4096 and 8192
	b = binary.BigEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0, 0x50, 0x10, 0, 0, 0, 0, 0, 0)
	return append(append(b, payload...), "trailer"...)
}

func pcap(frames ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 0xa1b2c3d4)
	b = append(b, make([]byte, 16)...)
	b = binary.LittleEndian.AppendUint32(b, linkEthernet)
	for _, f := range frames {
		b = append(b, make([]byte, 8)...)
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	return b
}

// A secret that lies across segments which came out of order, twice, and over
// the end of the sequence numbers.
func TestStreams(t *testing.T) {
	packets, err := parsePcap(pcap(frame(0xfffffffe, "se"), frame(3, "t!"), frame(0, "cre"), frame(0xffffffff, "ec"), frame(2, "et")))
	if err != nil {
		t.Fatal(err)
	}
	if p := packets[0]; p.Proto != "tcp" || p.Src.String() != "10.0.0.1:4096" || p.Dst.String() != "10.0.0.2:8192" || string(p.Payload) != "se" {
		t.Fatalf("%+v", p)
	}
	streams := Streams(packets)
	if len(streams) != 1 || string(streams[0]) != "secret!" {
		t.Fatalf("%q", streams)
	}
	found := FindSecrets(packets, []Secret{{"s", []byte("secret!")}})
	if len(found) != 1 || !strings.HasPrefix(found[0].Where, "TCP stream") {
		t.Errorf("%v", found)
	}
}

func FuzzPcap(f *testing.F) {
	f.Add(pcap(frame(1, "tea")))
	f.Add(pcap())
	f.Fuzz(func(t *testing.T, b []byte) {
		packets, err := parsePcap(b)
		if err != nil {
			return
		}
		total := 0
		for _, p := range packets {
			total += len(p.Payload)
			if !bytes.Contains(p.Raw, p.Payload) {
				t.Fatal("a payload that is not in its packet")
			}
		}
		out := 0
		for _, s := range Streams(packets) {
			out += len(s)
		}
		if total > len(b) || out > total {
			t.Fatalf("%d bytes of payload, %d of streams, from %d", total, out, len(b))
		}
	})
}
