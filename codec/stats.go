package codec

// Plus is what happened in all, where later happened after s, to another
// receiver: counts and durations are added, and what is measured as it is now
// (Jitter, Target, Delay) is later's.
func (s Stats) Plus(later Stats) Stats {
	sum := later
	for _, c := range []struct{ to, from *uint64 }{
		{&sum.Received, &s.Received},
		{&sum.Doubled, &s.Doubled},
		{&sum.Refused, &s.Refused},
		{&sum.OnTime, &s.OnTime},
		{&sum.Repaired, &s.Repaired},
		{&sum.FEC, &s.FEC},
		{&sum.Concealed, &s.Concealed},
		{&sum.Skipped, &s.Skipped},
		{&sum.Unheard, &s.Unheard},
		{&sum.Lost, &s.Lost},
		{&sum.Late, &s.Late},
		{&sum.Undecodable, &s.Undecodable},
		{&sum.Resets, &s.Resets},
	} {
		*c.to += *c.from
	}
	sum.ConcealedDuration += s.ConcealedDuration
	sum.StretchedDuration += s.StretchedDuration
	return sum
}
