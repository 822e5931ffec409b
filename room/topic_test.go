package room

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestTopicsThatReadAlike(t *testing.T) {
	for _, same := range [][]string{
		{"tea", "TEA", " tea ", "Tea\n", "ｔｅａ", "t\u200bea", "\ufefftea", "te\u00ada", "\u202etea"},
		{"tea house", "Tea  House", "tea\u00a0house", "tea\u3000house", "tea\t house"},
		{"café", "cafe\u0301", "CAFÉ"},
		{"strasse", "Straße", "STRASSE"},
		{"茶馆", "茶馆 ", "茶\ufe00馆"},
		{"σίσυφοσ", "Σίσυφος", "ΣΊΣΥΦΟΣ"},
		{"ffi", "ﬃ"},
	} {
		for _, topic := range same {
			if got, err := NormaliseTopic(topic); err != nil || got != same[0] {
				t.Errorf("%+q: got %+q, %v, want %+q", topic, got, err, same[0])
			}
		}
	}
	for _, pair := range [][2]string{{"tea", "te a"}, {"tea", "tee"}, {"e", "é"}, {"a-b", "ab"}, {"І", "I"}} {
		a, _ := NormaliseTopic(pair[0])
		if b, _ := NormaliseTopic(pair[1]); a == b {
			t.Errorf("%+q and %+q give the same room", pair[0], pair[1])
		}
	}
}

func TestTopicsRefused(t *testing.T) {
	for _, topic := range []string{"", " \t\n", "\u200b", "a\x00b", "a\x1bb", "\xff", strings.Repeat("a", maxTopic+1)} {
		if got, err := NormaliseTopic(topic); err == nil {
			t.Errorf("%+q gives %+q", topic, got)
		}
		if _, err := OpenSecret(topic, [32]byte{}); err == nil {
			t.Errorf("%+q opens a room", topic)
		}
	}
}

func TestSecretDependsOnTopicAndNetwork(t *testing.T) {
	base, err := OpenSecret("tea", [32]byte{})
	if err != nil {
		t.Fatal(err)
	}
	topic, _ := OpenSecret("coffee", [32]byte{})
	network, _ := OpenSecret("tea", [32]byte{1})
	if base == topic || base == network || base == (Secret{}) {
		t.Error("two rooms share a secret")
	}
}

// Whatever is derived from one secret differs from all else that is.
func TestDerivationsDiffer(t *testing.T) {
	secret, epoch := goldSecret(), goldEpoch()
	seen := map[string]string{}
	note := func(name string, b []byte) {
		if was, twice := seen[string(b[:16])]; twice {
			t.Errorf("%s equals %s", name, was)
		}
		seen[string(b[:16])] = name
	}
	for _, label := range []string{labelID, labelDHT, labelTopic, labelBeacon, labelSession} {
		note(label, secret.expand(label, 32))
		note(label+" at 0", secret.expandPeriod(label, 0))
		note(label+" at 1", secret.expandPeriod(label, 1))
	}
	for _, label := range []string{labelRatchet, labelEpochTag, labelEpochID, labelRoster, labelFrame} {
		note(label, expand(epoch[:], label, 32))
	}
}

func TestPeriods(t *testing.T) {
	s := goldSecret()
	day := func(n uint64) string { return s.gossipTopic(n) }
	for _, c := range []struct {
		at        string
		publish   uint64
		subscribe []uint64
	}{
		{"2023-11-14T00:00:00Z", 19675, []uint64{19675, 19674}},
		{"2023-11-14T01:59:59Z", 19675, []uint64{19675, 19674}},
		{"2023-11-14T02:00:00Z", 19675, []uint64{19675}},
		{"2023-11-14T21:59:59Z", 19675, []uint64{19675}},
		{"2023-11-14T22:00:00Z", 19675, []uint64{19675, 19676}},
		{"2023-11-14T23:59:59.9Z", 19675, []uint64{19675, 19676}},
		{"2023-11-15T07:59:59+08:00", 19675, []uint64{19675, 19676}},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		publish, subscribe := s.gossipTopics(at)
		if publish != day(c.publish) || len(subscribe) != len(c.subscribe) {
			t.Errorf("%s: wrong topics", c.at)
			continue
		}
		for i, n := range c.subscribe {
			if subscribe[i] != day(n) {
				t.Errorf("%s: subscription %d is not day %d", c.at, i, n)
			}
		}
	}
}

// Two members whose clocks differ by at most an hour find each other, always.
func TestPeriodsBridgeAnHour(t *testing.T) {
	s := goldSecret()
	start := time.Unix(1_700_000_000, 0)
	for m := range 2 * 24 * 12 {
		at := start.Add(time.Duration(m) * 5 * time.Minute)
		other := at.Add(time.Hour)
		for _, pair := range [][2]time.Time{{at, other}, {other, at}} {
			publish, _ := s.gossipTopics(pair[0])
			if _, subscribe := s.gossipTopics(pair[1]); !slices.Contains(subscribe, publish) {
				t.Fatalf("what is published at %v is not heard at %v", pair[0], pair[1])
			}
			provide := s.dhtKeyAt(pair[0])
			if !slices.Contains(s.dhtKeysAround(pair[1], 1), provide) {
				t.Fatalf("what is provided at %v is not found at %v", pair[0], pair[1])
			}
		}
	}
}

func TestPeriodsBeforeTheEpoch(t *testing.T) {
	s := goldSecret()
	if publish, _ := s.gossipTopics(time.Unix(-1e9, 0)); publish != s.gossipTopic(0) {
		t.Error("a clock before 1970 is not taken for 1970")
	}
	s.dhtKeysAround(time.Time{}, findWide)
}

func FuzzNormaliseTopic(f *testing.F) {
	for _, s := range []string{"tea", " Tea  HOUSE ", "ﷺ", "e\u0301\u0327", "\u1e9e\u200d", "ΑΙ\u0345", "\u0345\u034f\u0301"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, topic string) {
		once, err := NormaliseTopic(topic)
		if err != nil {
			return
		}
		if again, err := normalise(once); err != nil || again != once {
			t.Errorf("%+q gives %+q, then %+q, %v", topic, once, again, err)
		}
	})
}
