package node

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// LANName is the name of the built-in network that has no secret.
const LANName = "lan"

// maxName is the longest network name as typed, in bytes.
const maxName = 256

// lowerBase32 writes ids that stand in protocol names and topics.
var lowerBase32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Network names one community's mesh (docs/protocol.md section 1). Secret is
// what makes someone a member of it.
type Network struct {
	ID     string // 26 letters and digits of lower-case base32
	Secret [32]byte
	// LAN marks the built-in network: its secret is known to everybody.
	LAN bool
}

// LAN is the built-in network. There is no privacy among its users.
func LAN() Network {
	n := NetworkFromSeed([32]byte{})
	n.LAN = true
	return n
}

// AdHocNetwork is the network that has only a name: [LAN] if it is "lan",
// else derived with Argon2id (64 MiB, about 0.2 s). It has no privacy beyond
// the secrecy of its name.
func AdHocNetwork(name string) (Network, error) {
	name, err := NormaliseNetworkName(name)
	if err != nil {
		return Network{}, err
	}
	if name == LANName {
		return LAN(), nil
	}
	return NetworkFromSeed(AdHocSeed(name)), nil
}

// AdHocSeed is the slow part of [AdHocNetwork], for callers that cache it. name
// must come from [NormaliseNetworkName].
func AdHocSeed(name string) [32]byte {
	return [32]byte(argon2.IDKey([]byte(name), []byte("teahouse network 1"), 3, 64<<10, 1, 32))
}

// NetworkFromSeed is the fast part of [AdHocNetwork].
func NetworkFromSeed(seed [32]byte) Network {
	n := Network{ID: lowerBase32.EncodeToString(expand(seed[:], "teahouse network id 1", 16))}
	copy(n.Secret[:], expand(seed[:], "teahouse network secret 1", 32))
	return n
}

// hallwayTopic is the gossip topic of the hallway, the list of rooms that
// chose to be listed, which bootstrap nodes route.
func (n Network) hallwayTopic() string {
	return lowerBase32.EncodeToString(expand(n.Secret[:], "teahouse hallway 1", 32))
}

// Format prints the id alone, whatever the verb: the secret stays out of logs.
func (n Network) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("network " + n.ID)) }

// LogValue is the id alone, as Format.
func (n Network) LogValue() slog.Value { return slog.StringValue(n.ID) }

// NormaliseNetworkName gives the spelling that all spellings of one name
// share: Unicode's NFKC_Casefold (section 3.13, R5; it drops invisible
// characters), white space trimmed and folded to one space. It repeats until
// nothing changes, so that it is idempotent.
func NormaliseNetworkName(name string) (string, error) {
	switch {
	case len(name) > maxName:
		return "", fmt.Errorf("network name is longer than %d bytes", maxName)
	case !utf8.ValidString(name):
		return "", errors.New("network name is not valid UTF-8")
	}
	fold := cases.Fold()
	for range 8 {
		next := strings.Map(dropIgnorable, name)
		next = norm.NFKC.String(fold.String(norm.NFKC.String(next)))
		next = strings.Join(strings.Fields(next), " ")
		if next == name {
			break
		}
		name = next
	}
	switch {
	case name == "":
		return "", errors.New("network name is empty")
	case strings.ContainsFunc(name, unicode.IsControl):
		return "", errors.New("network name has control characters")
	}
	return name, nil
}

// dropIgnorable drops Default_Ignorable_Code_Point (Unicode,
// DerivedCoreProperties): zero-width and bidi marks, fillers and the like.
func dropIgnorable(r rune) rune {
	switch {
	case r < 0xAD:
		return r
	case unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector):
		return -1
	case !unicode.Is(unicode.Cf, r), unicode.Is(unicode.Prepended_Concatenation_Mark, r):
		return r
	case r >= 0xFFF9 && r <= 0xFFFB, r >= 0x13430 && r <= 0x1345F: // format controls that are not ignorable
		return r
	}
	return -1
}

// expand is HKDF-Expand with SHA-256 (RFC 5869 section 2.3) for the lengths
// of this package, none of which can fail.
func expand(prk []byte, label string, n int) []byte {
	out, err := hkdf.Expand(sha256.New, prk, label, n)
	if err != nil {
		panic(err) // only lengths over 8,160 bytes are an error
	}
	return out
}
