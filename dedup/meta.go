package dedup

import (
	"encoding/binary"
	"fmt"
	"math"

	"cassdelta/internal/rawtopic"
	"cassdelta/state"
)

// The names of values of their own in the state. The value of metaInit is the format (1 byte: 1), the cluster (uvarint
// length, bytes), the topic id (16 bytes), the number of partitions and the version (varints); that of metaWatermark the
// format and the watermark in microseconds (varint).
const (
	metaInit      = "init"
	metaWatermark = "watermark"
	metaFormat    = 1
)

// noWatermark is the watermark before the first tick.
const noWatermark = math.MinInt64

// load reads what every record needs.
func (f *Fold) load(tx *state.Txn) error {
	f.initialized, f.watermark = false, noWatermark
	key := state.Meta(f.work.key1[:0], f.group, metaInit)
	f.work.key1 = key
	value, err := tx.Get(key)
	if err != nil {
		return err
	}
	if value != nil {
		if f.init, err = decodeInit(value); err != nil {
			return f.stored(key, err)
		}
		f.initialized = true
	}
	key = state.Meta(key[:0], f.group, metaWatermark)
	f.work.key1 = key
	if value, err = tx.Get(key); err != nil {
		return err
	}
	if value != nil {
		if f.watermark, err = decodeWatermark(value); err != nil {
			return f.stored(key, err)
		}
	}
	key = state.Meta(key[:0], f.group, metaHosts)
	f.work.key1 = key
	if value, err = tx.Get(key); err != nil {
		return err
	}
	if value != nil {
		if f.hosts, err = decodeHosts(value); err != nil {
			return f.stored(key, err)
		}
	}
	f.loaded = true
	return nil
}

// applyInit remembers what the partition says of itself first, and holds later records to it.
func (f *Fold) applyInit(i *rawtopic.Init) error {
	if f.initialized {
		if *i != f.init {
			return f.refuse("", "expected cluster %q, topic %v, %d partitions, version %d as in the first Init record, found %q, %v, %d, %d; "+
				"two clusters must not share a raw topic",
				f.init.Cluster, f.init.TopicID, f.init.Partitions, f.init.Version, i.Cluster, i.TopicID, i.Partitions, i.Version)
		}
		return nil
	}
	if i.Version != rawtopic.Version {
		return f.refuse("", "expected version %d of the raw format, found %d; use the version of cassdelta that the agents have", rawtopic.Version, i.Version)
	}
	if f.partition >= i.Partitions || i.Partitions > state.StoreGroup {
		return f.refuse("", "it says that the topic has %d partitions, and this is number %d", i.Partitions, f.partition)
	}
	key := state.Meta(f.work.key1[:0], f.group, metaInit)
	f.work.key1 = key
	if err := f.call.tx.Set(key, appendInit(nil, i)); err != nil {
		return err
	}
	f.init, f.initialized = *i, true
	return nil
}

func appendInit(dst []byte, i *rawtopic.Init) []byte {
	dst = append(dst, metaFormat)
	dst = binary.AppendUvarint(dst, uint64(len(i.Cluster)))
	dst = append(dst, i.Cluster...)
	dst = append(dst, i.TopicID[:]...)
	dst = binary.AppendVarint(dst, int64(i.Partitions))
	return binary.AppendVarint(dst, int64(i.Version))
}

func decodeInit(value []byte) (i rawtopic.Init, err error) {
	in := decoder{b: value}
	in.format(metaFormat)
	i.Cluster = string(in.bytes(in.uvarint("cluster"), "cluster"))
	copy(i.TopicID[:], in.bytes(uint64(len(i.TopicID)), "topic id"))
	partitions, version := in.varint("partitions"), in.varint("version")
	if partitions < 1 || partitions > state.StoreGroup || version < 0 || version > math.MaxInt32 {
		in.fail(fmt.Sprintf("found %d partitions, version %d", partitions, version))
	}
	i.Partitions, i.Version = int32(partitions), int32(version)
	return i, in.end("init")
}

func (f *Fold) setWatermark(w int64) error {
	key := state.Meta(f.work.key1[:0], f.group, metaWatermark)
	f.work.key1 = key
	f.work.value = binary.AppendVarint(append(f.work.value[:0], metaFormat), w)
	if err := f.call.tx.Set(key, f.work.value); err != nil {
		return err
	}
	f.watermark = w
	return nil
}

func decodeWatermark(value []byte) (int64, error) {
	in := decoder{b: value}
	in.format(metaFormat)
	w := in.varint("watermark")
	return w, in.end("watermark")
}

// now is the second up to which time has come: what expires at it or before is expired.
func (f *Fold) now() int64 {
	if f.watermark == noWatermark {
		return math.MinInt64
	}
	return second(f.watermark)
}
