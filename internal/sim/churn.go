package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// churnPatience is how long a room gets to become one after everything was
// done to it. A peer that could not be reached is dialled again after at most
// a minute and a quarter (room/rendezvous.go), one that was killed is gone
// after 15 s, and news takes a moment.
const churnPatience = 75 * time.Second

// skewMost is how wrong a clock is at most (DESIGN section 8).
const skewMost = time.Hour

// Churn makes a scenario of random life on the memory network: rounds in which
// people come, go, die and come back, wires change, the network splits and
// clocks are set, each followed by a Settle and by three seconds in which all
// talk, in a window of its own ("round 0", "round 1", …). Now and then it is
// quiet for long. It begins at some time of the day, often shortly before the
// day changes. length is that of the steps' clock.
func Churn(seed uint64, people int, length time.Duration) Scenario {
	c := churn{random: rand.New(rand.NewPCG(seed, 2)), clocks: rand.New(rand.NewPCG(seed, 3)), in: make([]bool, people)}
	c.Scenario = Scenario{
		Name: "churn", Made: fmt.Sprintf("sim.Churn(%d, %d, %d) // %v", seed, people, length, length),
		Seed: seed, People: people, Wire: c.wire(), Clock: c.begin(length),
	}
	for who := range people {
		c.setClock(who)
	}
	c.add(Join{c.random.Perm(people)[:2]})
	for round := 0; c.at < length; round++ {
		c.round(round)
	}
	c.For = c.at + time.Second
	return c.Scenario
}

type churn struct {
	Scenario

	random *rand.Rand
	clocks *rand.Rand // for what was added later: a seed goes on meaning what it meant
	at     time.Duration
	in     []bool // who is to be here
	split  bool
}

func (c *churn) add(do Act) {
	c.Steps = append(c.Steps, Step{c.at, do})
	if join, ok := do.(Join); ok {
		for _, who := range join.Who {
			c.in[who] = true
		}
	}
}

// pause lets up to most pass.
func (c *churn) pause(most time.Duration) {
	c.at += time.Duration(c.random.Int64N(int64(most/time.Millisecond))) * time.Millisecond
}

func (c *churn) round(number int) {
	if c.random.IntN(3) == 0 {
		c.add(SetWires{c.wire()})
	}
	for range 1 + c.random.IntN(8) {
		if c.clocks.IntN(6) == 0 {
			c.setClock(c.clocks.IntN(c.People))
		}
		c.event()
		// Much at once as well as one thing at a time.
		if c.random.IntN(3) > 0 {
			c.pause([]time.Duration{500 * time.Millisecond, 5 * time.Second, 20 * time.Second}[c.random.IntN(3)])
		}
	}
	if c.split && c.random.IntN(3) > 0 {
		c.heal()
	}
	c.add(Talk{})
	c.add(Settle{Within: churnPatience, Patience: 2 * churnPatience})
	c.add(Mark{fmt.Sprint("round ", number)})
	c.add(Talk{c.here()})
	c.at += 3 * time.Second // bursts of loss last 0.2 s in the mean: none fills this
	c.add(Talk{})
	c.at += 500 * time.Millisecond
	c.add(Hark{})
	c.add(Mark{})
	switch c.random.IntN(20) {
	case 0:
		c.pause(40 * time.Minute)
	case 1:
		c.pause(20 * time.Minute)
	}
}

// begin is the time of the day at which it begins.
func (c *churn) begin(length time.Duration) time.Duration {
	if c.clocks.IntN(2) == 0 {
		return 24*time.Hour - time.Duration(c.clocks.Int64N(int64(length)))
	}
	return time.Duration(c.clocks.Int64N(int64(24 * time.Hour)))
}

// setClock makes somebody's clock right, or wrong by up to skewMost, or by
// exactly that.
func (c *churn) setClock(who int) {
	by := time.Duration(0)
	switch c.clocks.IntN(4) {
	case 0:
		by = skewMost
	case 1:
		by = -skewMost
	case 2:
		by = time.Duration(c.clocks.Int64N(int64(2*skewMost))) - skewMost
	}
	c.add(Skew{who, by})
}

// event is one thing that happens.
func (c *churn) event() {
	here, away := c.here(), c.away()
	switch n := c.random.IntN(12); {
	case n < 4 && len(away) > 0 || len(here) < 2:
		crowd := 1
		if c.random.IntN(4) == 0 {
			crowd = 1 + c.random.IntN(len(away))
		}
		c.add(Join{away[:crowd]})
	case n == 4 && len(away) > 0:
		c.add(JoinAgain{away[0]})
		c.in[away[0]] = true
	case n < 7:
		c.add(Leave{here[0]})
		c.in[here[0]] = false
	case n < 9:
		c.add(Kill{here[0]})
		c.in[here[0]] = false
	case n == 9 && !c.split:
		c.add(Split{c.groups()})
		c.split = true
	case n == 9:
		c.heal()
	case n == 10:
		from, to := c.random.IntN(c.People), c.random.IntN(c.People)
		if from != to {
			c.add(SetWire{From: from, To: to, Wire: c.wire()})
		}
	default:
		c.add(Talk{here[:1+c.random.IntN(2)]})
	}
}

func (c *churn) heal() {
	c.add(Heal{})
	c.split = false
}

// groups cuts people in two or three.
func (c *churn) groups() [][]int {
	order := c.random.Perm(c.People)
	cut := 1 + c.random.IntN(c.People-1)
	groups := [][]int{order[:cut]}
	if rest := order[cut:]; len(rest) > 1 && c.random.IntN(4) == 0 {
		groups = append(groups, rest[:len(rest)/2])
	}
	return groups
}

// here and away are those people in random order.
func (c *churn) here() []int { return c.those(true) }
func (c *churn) away() []int { return c.those(false) }

func (c *churn) those(in bool) []int {
	return slices.DeleteFunc(c.random.Perm(c.People), func(who int) bool { return c.in[who] != in })
}

// wire is a random one: mostly good, sometimes far, sometimes bad.
func (c *churn) wire() Wire {
	w := Wire{Delay: time.Duration(1+c.random.IntN(40)) * time.Millisecond}
	if c.random.IntN(3) == 0 {
		w.Delay += time.Duration(c.random.IntN(160)) * time.Millisecond
	}
	if c.random.IntN(2) == 0 {
		w.Jitter = time.Duration(1+c.random.IntN(60)) * time.Millisecond
	}
	if c.random.IntN(2) == 0 {
		w.Loss.Rate = 0.2 * c.random.Float64()
		if c.random.IntN(2) == 0 {
			w.Loss.Burst = time.Duration(20+c.random.IntN(200)) * time.Millisecond
		}
	}
	return w
}

// Shrink takes steps out of a scenario for as long as it goes on failing, and
// gives the shortest found. fails plays a scenario, several times if it fails
// now and then only.
func Shrink(s Scenario, fails func(Scenario) bool) Scenario {
	s.Made = ""
	for size := len(s.Steps) / 2; size > 0; {
		smaller := false
		for at := 0; at < len(s.Steps); {
			less := s
			less.Steps = slices.Concat(s.Steps[:at], s.Steps[min(at+size, len(s.Steps)):])
			if fails(less) {
				s, smaller = less, true
			} else {
				at += size
			}
		}
		if !smaller || size > len(s.Steps) {
			size /= 2
		}
	}
	return s
}
