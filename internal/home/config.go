package home

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
)

// Config are the settings that a person may write into config.toml. Nothing
// needs the file to exist.
type Config struct {
	Network string // network to use without --network; empty: lan
	Nick    string // nickname without --nick; empty: made from the member key
}

// ReadConfig reads config.toml of a home that need not be open. The file is a
// subset of TOML, lines of `key = "value"` and comments; an unknown key is an
// error that names its line, because a setting that is silently ignored is
// worse than none.
func ReadConfig(d Dirs) (Config, error) {
	path := filepath.Join(d.Config, "config.toml")
	data, err := readFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("settings: %w", err)
	}
	c, err := parseConfig(string(data))
	if err != nil {
		return Config{}, fmt.Errorf("%s, %w", path, err)
	}
	return c, nil
}

func parseConfig(text string) (Config, error) {
	var c Config
	keys := map[string]*string{"network": &c.Network, "nick": &c.Nick}
	seen := map[string]bool{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		fail := func(what string) error { return fmt.Errorf("line %d: %s", i+1, what) }
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			return Config{}, fail(`a setting looks like: network = "name"`)
		}
		key = strings.TrimSpace(key)
		field := keys[key]
		if field == nil {
			return Config{}, fail(fmt.Sprintf("no such setting: %.40q; there are network and nick", key))
		}
		if seen[key] {
			return Config{}, fail(key + " is set twice")
		}
		seen[key] = true
		quoted, rest, err := cutQuoted(strings.TrimSpace(value))
		if err != nil || (rest != "" && !strings.HasPrefix(rest, "#")) {
			return Config{}, fail(key + ` wants a value in double quotes: ` + key + ` = "name"`)
		}
		*field = quoted
	}
	return c, nil
}

// cutQuoted splits a basic TOML string from what follows it.
func cutQuoted(s string) (value, rest string, err error) {
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil || !strings.HasPrefix(quoted, `"`) {
		return "", "", errors.New("no string in double quotes")
	}
	value, err = strconv.Unquote(quoted)
	return value, strings.TrimSpace(s[len(quoted):]), err
}
