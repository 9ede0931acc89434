package commitlog

import (
	"encoding/binary"

	"github.com/pierrec/lz4/v4"
)

// lz4Format is that of the blocks that LZ4Compressor makes: the length again, in four bytes and little-endian, and one raw
// block without a frame. Source: LZ4Compressor.compress.
//
// An element of a block is a sequence:
//
//	token            1  length of the literals (high four bits), length of the match - 4 (low four bits); 15 is continued:
//	literal length      bytes that are added, up to one that is not 255
//	literals            bytes as they are; the block ends behind those of the last sequence
//	offset           2  little-endian: how far back the match begins, 1 to 65535
//	match length        bytes that are added, as above
type lz4Format struct{}

const minLZ4Match = 4

func (lz4Format) name() string { return "an LZ4 block" }

// ratio is that of the longest matches, which take a byte for each 255 bytes.
func (lz4Format) ratio() int64 { return 255 }

func (lz4Format) begin(b *blockSections) (int64, error) {
	if b.body.left() < 5 {
		return 0, b.bad("%d compressed bytes", b.body.left())
	}
	head, err := b.body.next(4)
	if err != nil {
		return 0, err
	}
	return int64(binary.LittleEndian.Uint32(head)), nil
}

// elements leaves out a sequence without a match, which is the last one.
func (lz4Format) elements(src []byte, room int, before int64) (used, made int) {
	reach := int(min(before, 1<<16))
	for used+1 < len(src) {
		token, at := int(src[used]), used+1
		n := token >> 4
		if n == 15 {
			if n, at = lz4Length(src, at, n); at < 0 {
				break
			}
		}
		at += n + 2
		if at > len(src) {
			break
		}
		offset := int(src[at-2]) | int(src[at-1])<<8
		if offset == 0 || offset > reach+made+n {
			break
		}
		match := token & 15
		if match == 15 {
			if match, at = lz4Length(src, at, match); at < 0 {
				break
			}
		}
		if n += match + minLZ4Match; n > room-made {
			break
		}
		used, made = at, made+n
	}
	return used, made
}

// lz4Length adds the bytes of a length that follow at at; next is behind them, -1 if they are not all there.
func lz4Length(src []byte, at, n int) (length, next int) {
	for at < len(src) {
		b := src[at]
		n += int(b)
		at++
		if b != 255 {
			return n, at
		}
	}
	return n, -1
}

func (lz4Format) readLiterals(b *blockSections) error {
	token, err := b.byte()
	if err != nil {
		return err
	}
	b.head = int64(token)
	b.literals, err = lz4Sum(b, b.head>>4)
	return err
}

// readMatch finds nothing behind the last sequence.
func (lz4Format) readMatch(b *blockSections) (err error) {
	if b.body.left() == 0 && b.head&15 == 0 {
		return nil
	}
	if b.offset, err = b.integer(2); err != nil {
		return err
	}
	b.match, err = lz4Sum(b, b.head&15)
	b.match += minLZ4Match
	return err
}

// lz4Sum adds the bytes of a length that follow to its four bits in the token.
func lz4Sum(b *blockSections, n int64) (int64, error) {
	for next := n == 15; next; {
		add, err := b.byte()
		if err != nil {
			return 0, err
		}
		n += int64(add)
		next = add == 255
	}
	return n, nil
}

func (lz4Format) decode(dst []byte, known int, src []byte) error {
	n, err := lz4.UncompressBlockWithDict(src, dst[known:], dst[:known])
	if err == nil && n != len(dst)-known {
		err = errOtherLength
	}
	return err
}
