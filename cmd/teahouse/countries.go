package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2"

	"teahouse/node"
)

// maxCountries bounds a database of countries, which is kept in memory: mapped,
// a file that is written anew in its place would end the program.
const maxCountries = 256 << 20

// openCountries reads a database in the format of MaxMind. No path gives nil.
// What the database does not know, and what of it does not read, has no country.
func openCountries(path string) (node.CountryOf, error) {
	if path == "" {
		return nil, nil
	}
	data, err := readAtMost(path, maxCountries)
	if err != nil {
		return nil, fmt.Errorf("%q, %w", path, err)
	}
	db, err := maxminddb.OpenBytes(data)
	if err != nil {
		return nil, fmt.Errorf("%q is no database of countries: %s", path, oneLine(err.Error()))
	}
	if !hasCountries(db) {
		return nil, fmt.Errorf("%q is no database of countries: %w", path, errNoCountry)
	}
	return func(a netip.Addr) (string, bool) { return countryIn(db.Lookup(a)) }, nil
}

var errNoCountry = errors.New("none of its first entries has one")

// hasCountries looks for a country in the first entries: a database of
// something else would make every country an unknown one.
func hasCountries(db *maxminddb.Reader) bool {
	seen := 0
	for r := range db.Networks() {
		if _, ok := countryIn(r); ok {
			return true
		}
		if seen++; seen >= 4096 {
			break
		}
	}
	return false
}

// countryIn finds the country in a record: where MaxMind and DB-IP have it, or
// where IPinfo has it.
func countryIn(r maxminddb.Result) (string, bool) {
	if !r.Found() {
		return "", false
	}
	for _, path := range [][]any{{"country", "iso_code"}, {"country_code"}, {"country"}} {
		var code string
		if err := r.DecodePath(&code, path...); err == nil && len(code) == 2 {
			return strings.ToUpper(code), true
		}
	}
	return "", false
}
