package lab

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestParsePlan(t *testing.T) {
	got, err := ParsePlan("a", `
# a comment
seed 18446744073709551615
public boot
public far   delay 40ms jitter 5ms in-order burst 200ms every 10s loss 0.5% ipv6 public # and another
home elm nat full-cone hairpin lan 10.9.8.0/24 ipv6 ula loss 100%
home oak nat symmetric jitter 1s
host anna in elm
host ben-2 in oak
host axel in elm
`)
	if err != nil {
		t.Fatal(err)
	}
	want := &Plan{Seed: 1<<64 - 1, Sites: []Site{
		{Name: "boot"},
		{Name: "far", IPv6: PublicIPv6, Loss: 5, Link: Shape{Delay: 40 * time.Millisecond, Jitter: 5 * time.Millisecond, InOrder: true, Burst: 200 * time.Millisecond, Every: 10 * time.Second}},
		{Name: "elm", NAT: FullCone, Hairpin: true, IPv6: ULA, Loss: 1000, Hosts: []string{"anna", "axel"}},
		{Name: "oak", NAT: Symmetric, LAN: usualLAN, Link: Shape{Jitter: time.Second}, Hosts: []string{"ben-2"}},
	}}
	want.Sites[2].LAN = got.Sites[2].LAN
	if got.Sites[2].LAN.String() != "10.9.8.0/24" || !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// What is wrong is said with the line that it stands in.
func TestParsePlanRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                             "a: there is no host in it",
		"\n\nserver x":                 `a:3: "server" is none of seed, public, home, host`,
		"seed":                         "a:1: the seed is missing at the end of the line",
		"seed -1":                      `a:1: a seed is a whole number, not "-1"`,
		"seed 1\nseed 2":               "a:2: the seed is said once, before all hosts",
		"public p\nseed 2":             "a:2: the seed is said once, before all hosts",
		"public":                       "a:1: a name is missing at the end of the line",
		"public P":                     `a:1: "P" is no name: up to 15 lower-case letters, digits and hyphens, a letter first`,
		"public 1p":                    `a:1: "1p" is no name: up to 15 lower-case letters, digits and hyphens, a letter first`,
		"public abcdefghijklmnop":      `a:1: "abcdefghijklmnop" is no name: up to 15 lower-case letters, digits and hyphens, a letter first`,
		"public core":                  "a:1: the name core is taken",
		"public p\npublic p":           "a:2: the name p is taken",
		"public p nat symmetric":       "a:1: nat is for homes",
		"public p ipv6 ula":            "a:1: public p: ipv6 ula is for homes",
		"public p ipv6 any":            `a:1: ipv6 is public or ula, not "any"`,
		"public p delay":               "a:1: delay is missing at the end of the line",
		"public p delay 20":            `a:1: delay is 0s to 2s, as 20ms, not "20"`,
		"public p delay 3s":            `a:1: delay is 0s to 2s, as 20ms, not "3s"`,
		"public p delay -1ms":          `a:1: delay is 0s to 2s, as 20ms, not "-1ms"`,
		"public p delay 1ms delay 1ms": "a:1: delay is said twice",
		"public p in-order":            `a:1: "in-order" is not known of a site`,
		"public p burst 1s":            "a:1: burst D every D: every is missing",
		"public p burst 1s every 1s":   "a:1: a burst of 1s is at most every 2s",
		"public p loss 5":              `a:1: loss is 0% to 100% in tenths, as 0.5%, not "5"`,
		"public p loss 0.05%":          `a:1: loss is 0% to 100% in tenths, as 0.5%, not "0.05%"`,
		"public p loss NaN%":           `a:1: loss is 0% to 100% in tenths, as 0.5%, not "NaN%"`,
		"public p loss 101%":           `a:1: loss is 0% to 100% in tenths, as 0.5%, not "101%"`,
		"home h":                       "a:1: home h: nat KIND is missing",
		"home h nat open":              `a:1: nat "open" is none of [full-cone address-restricted port-restricted symmetric udp-blocked]`,
		"home h nat symmetric hairpin": "a:1: home h: hairpin goes with nat full-cone alone",
		"home h nat symmetric lan 192.168.1.0/16": `a:1: lan is a private /24 as 192.168.7.0/24, not "192.168.1.0/16"`,
		"home h nat symmetric lan 44.1.1.0/24":    `a:1: lan is a private /24 as 192.168.7.0/24, not "44.1.1.0/24"`,
		"home h nat symmetric lan 10.0.0.1/24":    `a:1: lan is a private /24 as 192.168.7.0/24, not "10.0.0.1/24"`,
		"host a in h":                             `a:1: there is no home "h" above`,
		"public p\nhost a in p":                   `a:2: there is no home "p" above`,
		"home h nat symmetric\nhost a":            "a:2: host NAME in HOME: in is missing; a host with an address of its own is public NAME",
		"home h nat symmetric\nhost a in":         "a:2: the home's name is missing at the end of the line",
		"home h nat symmetric\nhost a in h h":     `a:2: "h" is not expected here`,
		strings.Repeat("#", 1<<16+1):              "a: a topology has at most 65536 bytes",
	} {
		if p, err := ParsePlan("a", text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, %v; want %s", text[:min(len(text), 50)], p, err, want)
		}
	}
	var many strings.Builder
	for i := range 300 {
		many.WriteString("public p" + strings.Repeat("a", i%8) + string(rune('a'+i/8%26)) + string(rune('a'+i/208)) + "\n")
	}
	if _, err := ParsePlan("a", many.String()); err == nil || !strings.HasPrefix(err.Error(), "a:201: a topology has at most 200") {
		t.Errorf("300 hosts: %v", err)
	}
}

// The plans that come with the lab are plans, and a file is read as they are.
func TestLoadPlan(t *testing.T) {
	names := Topologies()
	if len(names) < 2 {
		t.Fatalf("topologies: %v", names)
	}
	for _, name := range names {
		if _, err := LoadPlan(name); err != nil {
			t.Error(err)
		}
	}
	file := filepath.Join(t.TempDir(), "mine")
	if err := os.WriteFile(file, []byte("public p\npublic q loss x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadPlan(file); err == nil || !strings.HasPrefix(err.Error(), file+":2: ") {
		t.Errorf("a file with a mistake: %v", err)
	}
	if _, err := LoadPlan("no-such-place"); err == nil || !strings.Contains(err.Error(), "two-homes") {
		t.Errorf("no such file: %v", err)
	}
}

// A plan, written and read again, is the same plan.
func FuzzParsePlan(f *testing.F) {
	for _, name := range Topologies() {
		text, err := examples.ReadFile("topologies/" + name + planSuffix)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("seed 0\nhome h nat udp-blocked loss .7% burst 1ms every 2ms jitter 0s in-order\nhost x in h")
	f.Fuzz(func(t *testing.T, text string) {
		plan, err := ParsePlan("a", text)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "a:") {
				t.Errorf("an error without a place: %v", err)
			}
			return
		}
		again, err := ParsePlan("a", plan.String())
		if err != nil {
			t.Fatalf("%s\n%v", plan, err)
		}
		if !reflect.DeepEqual(plan, again) {
			t.Errorf("%s\nis not\n%s", plan, again)
		}
	})
}
