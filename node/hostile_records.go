package node

import (
	"context"
	"strings"
	"sync"

	ds "github.com/ipfs/go-datastore"
	"github.com/ipfs/go-datastore/query"
)

// recordStore is where the DHT puts the provider records of others. Anybody can
// send them, for any key, so it is bounded; and records of one key lie
// together, because a lookup reads these alone (go-datastore's own map is
// walked as a whole). It is memory: who restarts is provided to again.
//
// A key of the datastore is /providers/<key>/<provider>, in base32.
type recordStore struct {
	mu     sync.Mutex
	byKey  map[string]map[string][]byte // key, provider: when, as the DHT wrote it
	byPeer map[string]map[string]bool   // provider, key
	count  int
}

const (
	maxRecords = 16 << 10
	// maxRecordsPerPeer is what one provider may have: 16 rooms at three hours
	// each, and what has not run out yet of the hours before.
	maxRecordsPerPeer = 256
	// maxRecordsPerKey is how many providers of one key are kept: a search
	// takes as many (maxProviders), and more than fit into one answer.
	maxRecordsPerKey = maxProviders
	// maxRecordName is the longest name of a record: keys have at most 80 bytes
	// in the DHT, peer ids 36.
	maxRecordName = 256
)

var _ ds.Batching = (*recordStore)(nil)

func newRecordStore() *recordStore {
	return &recordStore{byKey: make(map[string]map[string][]byte), byPeer: make(map[string]map[string]bool)}
}

// split cuts the name of a record before its last part.
func split(name string) (key, provider string) {
	i := strings.LastIndexByte(name, '/')
	return name[:max(i, 0)], name[i+1:]
}

// Put keeps a record if there is room for it. That there is none is no error:
// to the DHT an error is a disk to be tried again.
func (r *recordStore) Put(_ context.Context, k ds.Key, value []byte) error {
	name := k.String()
	if len(name) > maxRecordName || len(value) > 16 {
		return nil
	}
	key, provider := split(name)
	r.mu.Lock()
	defer r.mu.Unlock()
	of := r.byKey[key]
	if _, known := of[provider]; !known {
		theirs := len(r.byPeer[provider])
		if len(of) >= maxRecordsPerKey || theirs >= maxRecordsPerPeer || r.count >= maxRecords && !r.makeRoom(theirs) {
			return nil
		}
		of = r.byKey[key] // makeRoom may have taken it away
		if of == nil {
			of = make(map[string][]byte)
			r.byKey[key] = of
		}
		if theirs == 0 {
			r.byPeer[provider] = make(map[string]bool)
		}
		r.byPeer[provider][key] = true
		r.count++
	}
	of[provider] = value
	return nil
}

// makeRoom takes a record from the provider who has most, for one who has
// theirs of them. mu must be held.
func (r *recordStore) makeRoom(theirs int) bool {
	most, whose := theirs+1, ""
	for p, keys := range r.byPeer {
		if len(keys) > most {
			most, whose = len(keys), p
		}
	}
	for key := range r.byPeer[whose] {
		r.remove(key, whose)
		return true
	}
	return false
}

// remove takes a record out that is there. mu must be held.
func (r *recordStore) remove(key, provider string) {
	delete(r.byKey[key], provider)
	if len(r.byKey[key]) == 0 {
		delete(r.byKey, key)
	}
	delete(r.byPeer[provider], key)
	if len(r.byPeer[provider]) == 0 {
		delete(r.byPeer, provider)
	}
	r.count--
}

// Delete forgets a record.
func (r *recordStore) Delete(_ context.Context, k ds.Key) error {
	key, provider := split(k.String())
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.byKey[key][provider]; known {
		r.remove(key, provider)
	}
	return nil
}

// Get answers one record.
func (r *recordStore) Get(_ context.Context, k ds.Key) ([]byte, error) {
	key, provider := split(k.String())
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok := r.byKey[key][provider]; ok {
		return v, nil
	}
	return nil, ds.ErrNotFound
}

// Has tells whether a record is there.
func (r *recordStore) Has(ctx context.Context, k ds.Key) (bool, error) {
	_, err := r.Get(ctx, k)
	return err == nil, nil
}

// GetSize is the length of a record.
func (r *recordStore) GetSize(ctx context.Context, k ds.Key) (int, error) {
	v, err := r.Get(ctx, k)
	if err != nil {
		return -1, err
	}
	return len(v), nil
}

// Query answers the records of one key, or all of them.
func (r *recordStore) Query(_ context.Context, q query.Query) (query.Results, error) {
	prefix := strings.TrimSuffix(q.Prefix, "/")
	r.mu.Lock()
	var found []query.Entry
	add := func(key string, of map[string][]byte) {
		for provider, v := range of {
			found = append(found, query.Entry{Key: key + "/" + provider, Value: v, Size: len(v)})
		}
	}
	if of, ok := r.byKey[prefix]; ok {
		add(prefix, of)
	} else {
		for key, of := range r.byKey {
			if prefix == "" || strings.HasPrefix(key, prefix+"/") {
				add(key, of)
			}
		}
	}
	r.mu.Unlock()
	q.Prefix = "" // done; the rest is the library's
	return query.NaiveQueryApply(q, query.ResultsWithEntries(q, found)), nil
}

// Batch collects writes; each is applied as it comes, because no write can
// fail.
func (r *recordStore) Batch(context.Context) (ds.Batch, error) { return recordBatch{r}, nil }

type recordBatch struct{ *recordStore }

// Commit has nothing left to do.
func (recordBatch) Commit(context.Context) error { return nil }

// Sync has nothing to do.
func (r *recordStore) Sync(context.Context, ds.Key) error { return nil }

// Close has nothing to do.
func (r *recordStore) Close() error { return nil }
