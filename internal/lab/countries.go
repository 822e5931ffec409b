package lab

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
)

// WriteCountries writes a database of countries in the format of MaxMind
// (MaxMind DB File Format Specification v2.0): which range lies where, by ISO
// code. It is small and made for tests: 24-bit records in a tree of IPv6, in
// which IPv4 lies under ::/96.
func WriteCountries(path string, where map[netip.Prefix]string) error {
	var data bytes.Buffer
	offsets := map[string]int{}
	// A record of the tree: another node, or data.
	type record struct {
		node int // 0: none, no record leads to the root
		data int // 1 above the offset; 0: none
	}
	tree := [][2]record{{}}
	for prefix, country := range where {
		if len(country) != 2 || !prefix.IsValid() || prefix.Bits() == 0 {
			return fmt.Errorf("country %q of %v", country, prefix)
		}
		if _, ok := offsets[country]; !ok {
			offsets[country] = data.Len()
			mmdbMap(&data, 1)
			mmdbString(&data, "country")
			mmdbMap(&data, 1)
			mmdbString(&data, "iso_code")
			mmdbString(&data, country)
		}
		addr, bits := prefix.Addr().As16(), prefix.Bits()
		if prefix.Addr().Is4() {
			four := prefix.Addr().As4()
			addr = [16]byte{12: four[0], four[1], four[2], four[3]}
			bits += 96
		}
		at := 0
		for i := range bits {
			bit := addr[i/8] >> (7 - i%8) & 1
			r := &tree[at][bit]
			if i == bits-1 {
				*r = record{data: offsets[country] + 1}
				break
			}
			if r.data > 0 {
				return fmt.Errorf("%v lies in another range", prefix)
			}
			if r.node == 0 {
				r.node = len(tree)
				tree = append(tree, [2]record{})
				r = &tree[at][bit]
			}
			at = r.node
		}
	}
	var out bytes.Buffer
	for _, node := range tree {
		for _, r := range node {
			value := len(tree) // nothing is known
			switch {
			case r.data > 0:
				value = len(tree) + 16 + r.data - 1
			case r.node > 0:
				value = r.node
			}
			out.Write([]byte{byte(value >> 16), byte(value >> 8), byte(value)})
		}
	}
	out.Write(make([]byte, 16))
	out.Write(data.Bytes())
	out.WriteString("\xab\xcd\xefMaxMind.com")
	mmdbMap(&out, 8)
	for _, field := range []struct {
		name  string
		kind  byte
		value int
	}{
		{"binary_format_major_version", 5, 2},
		{"binary_format_minor_version", 5, 0},
		{"ip_version", 5, 6},
		{"record_size", 5, 24},
		{"node_count", 6, len(tree)},
	} {
		mmdbString(&out, field.name)
		mmdbNumber(&out, field.kind, field.value)
	}
	mmdbString(&out, "build_epoch")
	out.Write([]byte{0<<5 | 4, 9 - 7, 0x65, 0, 0, 0}) // an extended type: 9, uint64
	mmdbString(&out, "database_type")
	mmdbString(&out, "Teahouse-Test-Country")
	mmdbString(&out, "languages")
	out.Write([]byte{0, 11 - 7}) // an empty array
	return os.WriteFile(path, out.Bytes(), 0o600)
}

func mmdbMap(b *bytes.Buffer, pairs int) { b.WriteByte(7<<5 | byte(pairs)) }

func mmdbString(b *bytes.Buffer, s string) {
	if len(s) < 29 {
		b.WriteByte(2<<5 | byte(len(s)))
	} else {
		b.Write([]byte{2<<5 | 29, byte(len(s) - 29)})
	}
	b.WriteString(s)
}

// mmdbNumber writes a uint16 (kind 5) or uint32 (kind 6).
func mmdbNumber(b *bytes.Buffer, kind byte, n int) {
	bytes := []byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
	if kind == 5 {
		bytes = bytes[2:]
	}
	b.WriteByte(kind<<5 | byte(len(bytes)))
	b.Write(bytes)
}
