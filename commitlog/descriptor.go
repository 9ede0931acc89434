package commitlog

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"regexp"
	"strconv"
)

// Version is a commit log version: the first number of a segment's name and the first field of its header.
// It is not the product version: Cassandra 5.0 writes version 7 unless told otherwise.
type Version int32

const (
	// Version30 is written by Cassandra 3.0 and 3.11.
	Version30 Version = 6
	// Version40 is written by Cassandra 4.0 and 4.1, and by 5.0 with storage_compatibility_mode CASSANDRA_4.
	Version40 Version = 7
	// Version50 is written by Cassandra 5.0 with storage_compatibility_mode UPGRADING or NONE.
	Version50 Version = 8
)

// Supported reports whether this package reads the version.
func (v Version) Supported() bool { return v >= Version30 && v <= Version50 }

// hasIndex reports whether nodes that write this version write CDC index files: Cassandra 4.0 and later.
func (v Version) hasIndex() bool { return v >= Version40 }

// unsignedDeletionTimes reports whether local deletion times are unsigned (CASSANDRA-14227): messaging version 13.
func (v Version) unsignedDeletionTimes() bool { return v >= Version50 }

var (
	segmentName = regexp.MustCompile(`^CommitLog-(\d+)-(\d+)\.log$`)
	indexName   = regexp.MustCompile(`^CommitLog-(\d+)-(\d+)_cdc\.idx$`)
)

// SegmentName is the file name of a segment.
func SegmentName(v Version, id int64) string { return fmt.Sprintf("CommitLog-%d-%d.log", v, id) }

// IndexName is the file name of a segment's CDC index.
func IndexName(v Version, id int64) string { return fmt.Sprintf("CommitLog-%d-%d_cdc.idx", v, id) }

// ParseSegmentName takes the name (without directory) of a segment apart; ok is false for any other file.
func ParseSegmentName(name string) (v Version, id int64, ok bool) {
	return parseName(segmentName, name)
}

// ParseIndexName takes the name (without directory) of a CDC index apart; ok is false for any other file.
func ParseIndexName(name string) (v Version, id int64, ok bool) { return parseName(indexName, name) }

func parseName(re *regexp.Regexp, name string) (Version, int64, bool) {
	m := re.FindStringSubmatch(name)
	if m == nil {
		return 0, 0, false
	}
	v, err := strconv.ParseInt(m[1], 10, 32)
	if err != nil {
		return 0, 0, false
	}
	id, err := strconv.ParseInt(m[2], 10, 64)
	if err != nil {
		return 0, 0, false
	}
	return Version(v), id, true
}

// Descriptor is the header of a segment:
//
//	Offset  Size  Field
//	0       4     version, i32
//	4       8     segment id, i64
//	12      2     n, length of the parameters, u16
//	14      n     parameters, a JSON object in UTF-8
//	14+n    4     CRC-32 (IEEE) of: version, low 32 bits of the id, high 32 bits of the id, n (as 4 bytes), parameters
//
// All integers are big-endian. Source: CommitLogDescriptor.writeHeader, readHeader.
type Descriptor struct {
	Version Version
	ID      int64
	// Length of the header in bytes, which is the offset of the first sync marker.
	Length int
	// Compression is the class name of the compressor as the header has it, "" for none.
	Compression string
	// Cipher is the JCE transformation of an encrypted segment, "" for none. KeyAlias and IV are the name of its key and
	// its initialization vector.
	Cipher   string
	KeyAlias string
	IV       []byte
}

const (
	headerFixed  = 14 // version, id and length of the parameters
	headerMin    = headerFixed + 4
	maxHeaderLen = headerMin + 1<<16

	usualHeaderLen = 512 // more than segments need, unless they have a long key alias
)

// parameters are the known keys of the header's JSON; unknown ones are ignored.
type parameters struct {
	CompressionClass string `json:"compressionClass"`
	EncCipher        string `json:"encCipher"`
	EncKeyAlias      string `json:"encKeyAlias"`
	EncIV            string `json:"encIV"`
}

// ParseDescriptor reads the header of a segment from the first bytes of its file. file names it in errors.
//
// The error is ErrMore if b is shorter than the header says (a file just created), a [*DamagedError], or an
// [*UnsupportedError] for a version that this package does not read.
func ParseDescriptor(file string, b []byte) (Descriptor, error) {
	if len(b) < headerMin {
		return Descriptor{}, ErrMore
	}
	d := Descriptor{Version: Version(binary.BigEndian.Uint32(b)), ID: int64(binary.BigEndian.Uint64(b[4:]))}
	n := int(binary.BigEndian.Uint16(b[12:]))
	d.Length = headerMin + n
	if len(b) < d.Length {
		return Descriptor{}, ErrMore
	}
	found := binary.BigEndian.Uint32(b[headerFixed+n:])
	if want := d.checksum(b[headerFixed : headerFixed+n]); found != want {
		return Descriptor{}, &DamagedError{File: file, Offset: int64(headerFixed + n), What: "checksum of the header",
			Expected: hex32(want), Found: hex32(found), Hint: "the file is no commit log segment, or its first bytes were overwritten: move it out of cdc_raw and keep it"}
	}
	if !d.Version.Supported() {
		return Descriptor{}, &UnsupportedError{File: file, What: fmt.Sprintf("commit log version %d (this program reads 6, 7 and 8: Cassandra 3.0 to 5.0)", d.Version)}
	}
	var p parameters
	if err := json.Unmarshal(b[headerFixed:headerFixed+n], &p); err != nil {
		return Descriptor{}, &DamagedError{File: file, Offset: headerFixed, What: "parameters of the header",
			Expected: "a JSON object", Found: err.Error()}
	}
	d.Compression = p.CompressionClass
	if p.EncCipher != "" || p.EncKeyAlias != "" || p.EncIV != "" {
		d.Cipher, d.KeyAlias = cmp.Or(p.EncCipher, "unknown cipher"), p.EncKeyAlias
		var err error
		if d.IV, err = hex.DecodeString(p.EncIV); err != nil {
			return Descriptor{}, &DamagedError{File: file, Offset: headerFixed, What: "encIV in the header", Expected: "hexadecimal digits", Found: err.Error()}
		}
	}
	return d, nil
}

// checksum is that of a header with these parameters.
func (d Descriptor) checksum(params []byte) uint32 {
	var b [16]byte
	binary.BigEndian.PutUint32(b[0:], uint32(d.Version))
	binary.BigEndian.PutUint32(b[4:], uint32(d.ID))
	binary.BigEndian.PutUint32(b[8:], uint32(d.ID>>32))
	binary.BigEndian.PutUint32(b[12:], uint32(len(params)))
	return crc32.Update(crc32.ChecksumIEEE(b[:]), crc32.IEEETable, params)
}

func hex32(v uint32) string { return fmt.Sprintf("%08x", v) }
