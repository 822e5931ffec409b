package codec

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// Every field is added up, but for those that tell how it is now: also one that
// is new and was forgotten in Plus.
func TestStatsPlus(t *testing.T) {
	var one, two Stats
	for i := range reflect.TypeFor[Stats]().NumField() {
		for s, k := range map[*Stats]int{&one: 1, &two: 100} {
			switch f := reflect.ValueOf(s).Elem().Field(i); f.Interface().(type) {
			case uint64:
				f.SetUint(uint64(k * (i + 1)))
			case time.Duration:
				f.SetInt(int64(k * (i + 1)))
			default:
				t.Fatalf("a field of type %v", f.Type())
			}
		}
	}
	sum := reflect.ValueOf(one.Plus(two))
	for i := range sum.NumField() {
		name, want := sum.Type().Field(i).Name, int64(101*(i+1))
		if slices.Contains([]string{"Jitter", "Target", "Delay"}, name) {
			want = int64(100 * (i + 1))
		}
		got := sum.Field(i)
		if got.CanInt() && got.Int() != want || got.CanUint() && got.Uint() != uint64(want) {
			t.Errorf("%s is %v, want %d", name, got, want)
		}
	}
}
