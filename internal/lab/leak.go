package lab

import (
	"bytes"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// Secret is something that must not be readable in a capture.
type Secret struct {
	Name  string
	Bytes []byte
}

// Finding is a secret that was found.
type Finding struct {
	Secret   string
	Encoding string
	Where    string
}

func (f Finding) String() string { return fmt.Sprintf("%s as %s in %s", f.Secret, f.Encoding, f.Where) }

type needle struct {
	secret, encoding string
	bytes            []byte
}

// minNeedle is the shortest encoded form that is searched for, in bytes: six
// random bytes are met by chance once in 2^48 positions.
const minNeedle = 6

// needles are the ways to write a secret: as it is, in capitals and small
// letters, hex, base32, base58, base64, each at every alignment at which it
// may stand inside something longer.
func needles(s Secret) []needle {
	var all []needle
	add := func(encoding string, b []byte) {
		if len(b) >= minNeedle {
			all = append(all, needle{s.Name, encoding, b})
		}
	}
	add("text", s.Bytes)
	add("small letters", bytes.ToLower(s.Bytes))
	add("capitals", bytes.ToUpper(s.Bytes))
	add("UTF-16", wide(s.Bytes))
	hexed := hex.EncodeToString(s.Bytes)
	add("hex", []byte(hexed))
	add("hex in capitals", []byte(strings.ToUpper(hexed)))
	for shift := range 5 { // 5 bytes are 8 letters
		text := inside(s.Bytes, shift, 5, base32.StdEncoding.EncodeToString)
		add("base32", text)
		add("base32 in small letters", bytes.ToLower(text))
		text = inside(s.Bytes, shift, 5, base32.HexEncoding.EncodeToString)
		add("base32hex", text)
		add("base32hex in small letters", bytes.ToLower(text))
	}
	for shift := range 3 { // 3 bytes are 4 letters
		add("base64", inside(s.Bytes, shift, 6, base64.StdEncoding.EncodeToString))
		add("base64url", inside(s.Bytes, shift, 6, base64.URLEncoding.EncodeToString))
	}
	add("base58", base58(s.Bytes)) // positional: it has no alignments
	slices.SortStableFunc(all, func(a, b needle) int { return bytes.Compare(a.bytes, b.bytes) })
	return slices.CompactFunc(all, func(a, b needle) bool { return bytes.Equal(a.bytes, b.bytes) })
}

// inside is those letters of an encoding that depend on secret alone when
// shift bytes stand before it and anything after it. bits is how many a letter
// bears.
func inside(secret []byte, shift, bits int, encode func([]byte) string) []byte {
	padded := append(make([]byte, shift), secret...)
	first, end := (8*shift+bits-1)/bits, 8*len(padded)/bits
	for len(padded)%15 != 0 { // whole groups in base32 and base64
		padded = append(padded, 0)
	}
	if first >= end {
		return nil
	}
	return []byte(encode(padded)[first:end])
}

func wide(b []byte) []byte {
	var w []byte
	for _, c := range b {
		w = append(w, c, 0)
	}
	return w
}

const base58Letters = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

func base58(b []byte) []byte {
	var text []byte
	n, radix, digit := new(big.Int).SetBytes(b), big.NewInt(58), new(big.Int)
	for n.Sign() > 0 {
		n.DivMod(n, radix, digit)
		text = append(text, base58Letters[digit.Int64()])
	}
	for _, c := range b {
		if c != 0 {
			break
		}
		text = append(text, base58Letters[0])
	}
	slices.Reverse(text)
	return text
}

// FindSecrets searches each packet and each TCP stream of a capture for all
// secrets, and gives each way in which one was found once.
func FindSecrets(packets []Packet, secrets []Secret) []Finding {
	var all []needle
	for _, s := range secrets {
		all = append(all, needles(s)...)
	}
	var found []Finding
	seen := make(map[string]bool)
	search := func(hay []byte, where func() string) {
		for _, n := range all {
			if id := n.secret + "\x00" + n.encoding; !seen[id] && bytes.Contains(hay, n.bytes) {
				seen[id] = true
				found = append(found, Finding{n.secret, n.encoding, where()})
			}
		}
	}
	for i, p := range packets {
		search(p.Raw, func() string {
			if !p.Src.IsValid() {
				return fmt.Sprintf("packet %d, %s", i, p.Proto)
			}
			return fmt.Sprintf("packet %d, %s %v > %v", i, p.Proto, p.Src, p.Dst)
		})
	}
	for i, s := range Streams(packets) {
		search(s, func() string { return fmt.Sprintf("TCP stream %d", i) })
	}
	return found
}
