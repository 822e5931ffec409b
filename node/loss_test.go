package node

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"teahouse/internal/mesh"
	"teahouse/internal/mesh/meshtest"
)

// lose makes every node's network lose this part of all that it sends, by
// chance, voice and QUIC alike.
func (i *internet) lose(part float64, seed uint64) {
	var mu sync.Mutex
	dice := rand.New(rand.NewPCG(seed, 40))
	i.filter(part > 0, func([]byte) bool {
		mu.Lock()
		defer mu.Unlock()
		return dice.Float64() < part
	})
}

// lossSeeds is how many runs TestLossyPath makes of each case: one, or more by
// the environment, for a long look.
func lossSeeds() int {
	n, err := strconv.Atoi(os.Getenv("TEAHOUSE_LOSS_SEEDS"))
	if err != nil {
		return 1
	}
	return n
}

// TestLossyPath: where a third and more is lost, voice goes on by datagrams,
// as late as the path is long and no later, and no session breaks.
func TestLossyPath(t *testing.T) {
	const talking = time.Minute
	for _, loss := range []float64{0.05, 0.33, 0.40} {
		for _, oneWay := range []time.Duration{20 * time.Millisecond, 60 * time.Millisecond, 150 * time.Millisecond} {
			for seed := range lossSeeds() {
				t.Run(fmt.Sprintf("%.0f %%, %v, %d", 100*loss, oneWay, seed), func(t *testing.T) {
					meshtest.Bubble(t, func(t *testing.T) {
						net := newInternet(t, oneWay)
						a, b := startNode(t, net.config(t)), startNode(t, net.config(t))
						from, to := silent(t, a, b)
						var k talk
						k.listen(to)
						from.Start(func([]byte) {}, nil)
						time.Sleep(3 * time.Second)
						var mu sync.Mutex
						streams := 0
						from.OnPath(func(p mesh.Path, ok bool) {
							mu.Lock()
							defer mu.Unlock()
							if !ok || p.Carrier != mesh.Datagram {
								streams++
							}
						})
						net.lose(loss, uint64(seed))
						begun := time.Now()
						k.speak(from, talking)
						for _, s := range []mesh.Session{from, to} {
							if s.Err() != nil {
								t.Errorf("the session ended: %v", s.Err())
							}
						}
						took, came := k.took(begun)
						p95 := took[len(took)*95/100]
						mu.Lock()
						defer mu.Unlock()
						t.Logf("p95 %v, worst %v, %.1f %% came, left the datagrams %d times", p95, took[len(took)-1], 100*came, streams)
						if p95 > oneWay+5*time.Millisecond {
							t.Errorf("p95 %v on a path of %v", p95, oneWay)
						}
						if streams > 0 {
							t.Errorf("voice left the datagrams %d times", streams)
						}
						if came < 1-loss-0.03 {
							t.Errorf("%.1f %% came", 100*came)
						}
						net.lose(0, 0)
					})
				})
			}
		}
	}
}

// took is how long the packets sent since a moment took, sorted, and the part
// of them that came.
func (k *talk) took(since time.Time) (delays []time.Duration, came float64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	sent := 0
	for i, at := range k.sent {
		if at.Before(since) {
			continue
		}
		sent++
		if !k.came[i].IsZero() {
			delays = append(delays, k.came[i].Sub(at))
		}
	}
	slices.Sort(delays)
	return delays, float64(len(delays)) / float64(sent)
}
