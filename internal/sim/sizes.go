package sim

import (
	"fmt"
	"reflect"
	"strings"
)

// sizes counts what a value holds: for each map, slice and channel in it, by
// the names of the fields that lead there, how many elements there are (the
// most, where there are several of that name). It goes into values of the
// package of v alone; what stands behind interfaces, functions and atomic
// pointers it does not see. Nobody may be at work on v meanwhile: in a bubble,
// call it after synctest.Wait.
func sizes(v any) map[string]int {
	w := sizing{found: make(map[string]int), met: make(map[uintptr]bool)}
	value := reflect.ValueOf(v)
	w.home = value.Type().Elem().PkgPath()
	w.walk(value.Type().Elem().Name(), value)
	return w.found
}

type sizing struct {
	home  string
	found map[string]int
	met   map[uintptr]bool
}

func (w *sizing) walk(path string, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() || w.met[v.Pointer()] || !w.ours(v.Type().Elem()) {
			return
		}
		w.met[v.Pointer()] = true
		w.walk(path, v.Elem())
	case reflect.Struct:
		if !w.ours(v.Type()) {
			return
		}
		for i := range v.NumField() {
			w.walk(path+"."+v.Type().Field(i).Name, v.Field(i))
		}
	case reflect.Array:
		if !w.plain(v.Type().Elem()) {
			for i := range v.Len() {
				w.walk(path, v.Index(i))
			}
		}
	case reflect.Chan:
		w.count(path, v.Len())
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			w.count(path+" (bytes)", v.Len())
			return
		}
		w.count(path, v.Len())
		if !w.plain(v.Type().Elem()) {
			for i := range v.Len() {
				w.walk(path, v.Index(i))
			}
		}
	case reflect.Map:
		w.count(path, v.Len())
		keys, values := !w.plain(v.Type().Key()), !w.plain(v.Type().Elem())
		for i := v.MapRange(); (keys || values) && i.Next(); {
			if keys {
				w.walk(path, i.Key())
			}
			if values {
				w.walk(path, i.Value())
			}
		}
	}
}

func (w *sizing) count(path string, n int) { w.found[path] = max(w.found[path], n) }

// ours tells whether to go into values of a type.
func (w *sizing) ours(t reflect.Type) bool { return t.PkgPath() == w.home || t.PkgPath() == "" }

// plain tells of types that hold nothing of any length.
func (w *sizing) plain(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Pointer, reflect.Struct:
		return !w.ours(t)
	case reflect.Array:
		return w.plain(t.Elem())
	case reflect.Slice, reflect.Map, reflect.Chan:
		return false
	}
	return true
}

// sizeLimits are for collections that may be larger than the room is: those
// of limits of their own (DESIGN section 5, and room). A name is the end of a
// path.
var sizeLimits = map[string]int{
	// Peers that may be in the room: each life is a new one.
	".candidates": 512,
	// Entries that were verified: a ring.
	".seen": 4096,
	// A message and a broadcast are at most that long (internal/mesh).
	" (bytes)": 64 << 10,
}

// oversized tells which collections are larger than a room of so many people,
// who came and went so often, has any need of.
func oversized(found map[string]int, people int) (wrong []string) {
	for path, n := range found {
		limit := 4*people + 32
		for end, most := range sizeLimits {
			if strings.HasSuffix(path, end) {
				limit = most
			}
		}
		if n > limit {
			wrong = append(wrong, fmt.Sprintf("%s holds %d, and not %d at most", path, n, limit))
		}
	}
	return wrong
}
