package room

import (
	"errors"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// normalise is NFKC_Casefold (Unicode, section 3.13, R5: map by case folding,
// drop what is by default ignorable, normalise) and white space folded. It
// repeats until nothing changes, so that it is idempotent.
func normalise(s string) (string, error) {
	fold := cases.Fold()
	for range 8 {
		next := strings.Map(func(r rune) rune {
			if ignorable(r) {
				return -1
			}
			return r
		}, s)
		next = norm.NFKC.String(fold.String(norm.NFKC.String(next)))
		next = strings.Join(strings.Fields(next), " ")
		if next == s {
			break
		}
		s = next
	}
	if s == "" {
		return "", errors.New("topic is empty")
	}
	if strings.ContainsFunc(s, unicode.IsControl) {
		return "", errors.New("topic has control characters")
	}
	return s, nil
}

// ignorable is Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties):
// zero-width and bidi marks, variation selectors, fillers and the like.
func ignorable(r rune) bool {
	if r < 0xAD {
		return false
	}
	if unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) {
		return true
	}
	return unicode.Is(unicode.Cf, r) &&
		!unicode.Is(unicode.Prepended_Concatenation_Mark, r) &&
		(r < 0xFFF9 || r > 0xFFFB) && (r < 0x13430 || r > 0x1345F)
}
