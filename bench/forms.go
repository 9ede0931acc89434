package bench

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"cassdelta/commitlog"
)

// Plain is the form of a segment without compression and encryption. The others are in Forms.
const Plain = "plain"

// Forms are what a node can make of its sections.
var Forms = []string{"lz4", "snappy", "deflate", "zstd", "encrypted"}

// Keys are those of encrypted segments.
var Keys = commitlog.RawKeys{keyAlias: []byte("sixteen byte key")}

const (
	keyAlias = "testing:1"
	iv       = "sixteen byte IV."
	// chunk is Cassandra's default of chunk_length_kb, in bytes.
	chunk = 64 << 10
)

// Form makes of a plain segment what a node writes that compresses or encrypts. It writes a section at each
// commitlog_sync_period, 10 s, and when the segment is full; here the segment was full first. So it is one section, and an
// empty one behind it.
func Form(segment []byte, form string) ([]byte, error) {
	if form == Plain {
		return segment, nil
	}
	encode, params := lz4Block, ""
	switch form {
	case "lz4":
		params = compression("LZ4Compressor")
	case "snappy":
		encode, params = snappyBlock, compression("SnappyCompressor")
	case "deflate":
		encode, params = zlibStream, compression("DeflateCompressor")
	case "zstd":
		encode, params = zstdFrame, compression("ZstdCompressor")
	case "encrypted":
		encode, params = encryptedBlocks, fmt.Sprintf(`{"encCipher":"AES/CBC/PKCS5Padding","encKeyAlias":"%s","encIV":"%x"}`, keyAlias, iv)
	default:
		return nil, fmt.Errorf("form %q: expected one of %s, %v", form, Plain, Forms)
	}
	id := int64(binary.BigEndian.Uint64(segment[4:]))
	var entries []byte
	for at := headerLen("{}"); ; {
		next := int(binary.BigEndian.Uint32(segment[at:]))
		if next == 0 {
			break
		}
		entries = append(entries, segment[at+markerLen:next]...)
		at = next
	}
	b := appendHeader(nil, id, params)
	for _, body := range [][]byte{entries, nil} {
		encoded, err := encode(body)
		if err != nil {
			return nil, err
		}
		marker := len(b)
		b = append(b, make([]byte, markerLen)...)
		b = appendUint32(b, uint32(len(body)))
		b = append(b, encoded...)
		putMarker(b, id, marker, len(b))
	}
	return b, nil
}

func compression(class string) string {
	return fmt.Sprintf(`{"compressionClass":"%s","compressionParameters":null}`, class)
}

func lz4Block(b []byte) ([]byte, error) {
	block := make([]byte, 4+lz4.CompressBlockBound(len(b)))
	binary.LittleEndian.PutUint32(block, uint32(len(b)))
	n, err := lz4.CompressBlock(b, block[4:], nil)
	if n == 0 {
		n = 1 // nothing takes a byte of zero
	}
	return block[:4+n], err
}

// snappyBlock compresses 64 KiB at a time, as Snappy does.
func snappyBlock(b []byte) ([]byte, error) {
	out := binary.AppendUvarint(nil, uint64(len(b)))
	for len(b) > 0 {
		n := min(64<<10, len(b))
		block := s2.EncodeSnappy(nil, b[:n])
		_, head := binary.Uvarint(block)
		out, b = append(out, block[head:]...), b[n:]
	}
	return out, nil
}

func zlibStream(b []byte) ([]byte, error) {
	if len(b) == 0 {
		return nil, nil
	}
	var out bytes.Buffer
	w := zlib.NewWriter(&out)
	if _, err := w.Write(b); err != nil {
		return nil, err
	}
	err := w.Close()
	return out.Bytes(), err
}

// zstdFrame has a window of 8 MiB, that of levels 17 to 19. The default level, 3, has one of 2 MiB.
func zstdFrame(b []byte) ([]byte, error) {
	w, err := zstd.NewWriter(nil, zstd.WithZeroFrames(true), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(8<<20))
	if err != nil {
		return nil, err
	}
	return w.EncodeAll(b, nil), nil
}

// encryptedBlocks are blocks of LZ4, each encrypted.
func encryptedBlocks(b []byte) (out []byte, err error) {
	key, err := aes.NewCipher(Keys[keyAlias])
	if err != nil {
		return nil, err
	}
	for len(b) > 0 {
		n := min(chunk, len(b))
		block, err := lz4Block(b[:n])
		if err != nil {
			return nil, err
		}
		text := append(appendUint32(nil, uint32(n)), block...)
		plain := len(text)
		pad := aes.BlockSize - plain%aes.BlockSize
		text = append(text, bytes.Repeat([]byte{byte(pad)}, pad)...)
		cipher.NewCBCEncrypter(key, []byte(iv)).CryptBlocks(text, text)
		out = appendUint32(appendUint32(out, uint32(len(text))), uint32(plain))
		out, b = append(out, text...), b[n:]
	}
	return out, nil
}
