import java.nio.ByteBuffer;
import java.util.Arrays;
import java.util.Collection;
import java.util.Properties;

import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.ValueState;
import org.apache.flink.api.common.state.ValueStateDescriptor;
import org.apache.flink.api.common.typeinfo.PrimitiveArrayTypeInfo;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple2;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.ReadableConfig;
import org.apache.flink.connector.base.DeliveryGuarantee;
import org.apache.flink.connector.kafka.sink.KafkaRecordSerializationSchema;
import org.apache.flink.connector.kafka.sink.KafkaSink;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.state.rocksdb.ConfigurableRocksDBOptionsFactory;
import org.apache.flink.state.rocksdb.RocksDBOptionsFactory;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.datastream.DataStreamUtils;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.rocksdb.ColumnFamilyOptions;
import org.rocksdb.CompressionType;
import org.rocksdb.DBOptions;

/**
 * The same deduplication as a job of Apache Flink, to be compared with cassdelta: copies of mutations in, one event with the row
 * before and after out, in the forms of reference.go. Exactly once by RocksDB, incremental checkpoints and transactions of Kafka.
 *
 * <p>It is what Flink does best with: copies that are byte for byte alike go in the deserializer, nothing is shuffled (which is right
 * with a parallelism of 1 only), all is one chain of operators that reuse objects, rows are byte arrays that are merged as they are,
 * RocksDB compresses nothing and starts to compact late. It knows neither Avro nor deletions.
 *
 * <p>Arguments: brokers, raw topic, clean topic, group, directory of checkpoints, interval of checkpoints in ms, megabytes of
 * managed memory.
 */
public final class DedupJob {
    static final int COLUMNS = 5;
    static final int TEXTS = 2;
    static final int PARTITION_BITS = 3;

    public static void main(String[] args) throws Exception {
        String brokers = args[0], raw = args[1], clean = args[2], group = args[3];
        Configuration c = new Configuration();
        c.setString("state.backend.type", "rocksdb");
        c.setString("state.backend.rocksdb.use-bloom-filter", "true");
        c.setString("state.backend.rocksdb.options-factory", Options.class.getName());
        c.setString("execution.checkpointing.incremental", "true");
        c.setString("execution.checkpointing.dir", "file://" + args[4]);
        c.setString("execution.checkpointing.interval", args[5] + " ms");
        c.setString("execution.checkpointing.mode", "EXACTLY_ONCE");
        c.setString("taskmanager.memory.managed.size", args[6] + "m");
        c.setString("pipeline.object-reuse", "true");
        StreamExecutionEnvironment env = StreamExecutionEnvironment.createLocalEnvironment(1, c);

        KafkaSource<byte[]> source = KafkaSource.<byte[]>builder()
                .setBootstrapServers(brokers).setTopics(raw).setGroupId(group)
                .setStartingOffsets(OffsetsInitializer.earliest())
                .setProperty("max.partition.fetch.bytes", "4194304")
                .setDeserializer(new Copies()).build();
        Properties producer = new Properties();
        producer.setProperty("compression.type", "lz4");
        producer.setProperty("batch.size", "262144");
        producer.setProperty("linger.ms", "10");
        producer.setProperty("buffer.memory", "67108864");
        producer.setProperty("transaction.timeout.ms", "600000");
        KafkaSink<byte[]> sink = KafkaSink.<byte[]>builder()
                .setBootstrapServers(brokers).setKafkaProducerConfig(producer)
                .setDeliveryGuarantee(DeliveryGuarantee.EXACTLY_ONCE).setTransactionalIdPrefix(group)
                .setRecordSerializer(new Events(clean)).build();

        DataStream<byte[]> copies = env.fromSource(source, WatermarkStrategy.noWatermarks(), "raw");
        DataStreamUtils.reinterpretAsKeyedStream(copies, v -> Tuple2.of(ByteBuffer.wrap(v).getLong(), ByteBuffer.wrap(v).getInt(8)),
                        Types.TUPLE(Types.LONG, Types.INT))
                .process(new Merge()).returns(PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO)
                .sinkTo(sink);
        env.execute("dedup");
    }

    static long mix64(long z) {
        z = (z ^ (z >>> 30)) * 0xBF58476D1CE4E5B9L;
        z = (z ^ (z >>> 27)) * 0x94D049BB133111EBL;
        return z ^ (z >>> 31);
    }

    /** Options are those of RocksDB with which the job was fastest. */
    public static final class Options implements ConfigurableRocksDBOptionsFactory {
        @Override
        public DBOptions createDBOptions(DBOptions options, Collection<AutoCloseable> handles) {
            return options;
        }

        @Override
        public ColumnFamilyOptions createColumnOptions(ColumnFamilyOptions options, Collection<AutoCloseable> handles) {
            return options.setLevel0FileNumCompactionTrigger(16).setCompressionType(CompressionType.NO_COMPRESSION);
        }

        @Override
        public RocksDBOptionsFactory configure(ReadableConfig config) {
            return this;
        }
    }

    /** Copies leaves out what is byte for byte a copy of a record that came lately, but for the number of the replica. */
    static final class Copies implements KafkaRecordDeserializationSchema<byte[]> {
        private static final int SLOTS = 1 << 16;
        private static final int REPLICA = 21;
        private transient long[] hashes;

        @Override
        public void deserialize(ConsumerRecord<byte[], byte[]> record, Collector<byte[]> out) {
            byte[] value = record.value();
            if (hashes == null) {
                hashes = new long[2 * SLOTS];
            }
            byte replica = value[REPLICA];
            value[REPLICA] = 0;
            long a = value.length, b = 1;
            ByteBuffer words = ByteBuffer.wrap(value);
            while (words.remaining() >= 8) {
                long word = words.getLong();
                a = mix64(a ^ word);
                b = b * 0x9E3779B97F4A7C15L + (word ^ (b >>> 32));
            }
            while (words.hasRemaining()) {
                long word = words.get();
                a = mix64(a ^ word);
                b = b * 0x9E3779B97F4A7C15L + (word ^ (b >>> 32));
            }
            b = mix64(b);
            value[REPLICA] = replica;
            int slot = (int) (a & (SLOTS - 1)) * 2;
            if (hashes[slot] == a && hashes[slot + 1] == b) {
                return;
            }
            hashes[slot] = a;
            hashes[slot + 1] = b;
            out.collect(value);
        }

        @Override
        public TypeInformation<byte[]> getProducedType() {
            return PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO;
        }
    }

    /** Events writes an event to the partition of its row. */
    static final class Events implements KafkaRecordSerializationSchema<byte[]> {
        private final String topic;

        Events(String topic) {
            this.topic = topic;
        }

        @Override
        public ProducerRecord<byte[], byte[]> serialize(byte[] event, KafkaSinkContext context, Long timestamp) {
            ByteBuffer b = ByteBuffer.wrap(event);
            int partition = (int) (mix64(b.getLong(1)) >>> (64 - PARTITION_BITS));
            return new ProducerRecord<>(topic, partition, b.getLong(13) / 1000, Arrays.copyOfRange(event, 1, 13), event);
        }
    }

    /**
     * Merge keeps of a row: a byte whether it was INSERTed, the mask of its columns, and for each its write time and its value. The
     * value with the later write time wins, the greater one of two with the same.
     */
    static final class Merge extends KeyedProcessFunction<Tuple2<Long, Integer>, byte[], byte[]> {
        private transient ValueState<byte[]> state;
        private transient int[] oldAt, newAt; // where the columns' write times are, 0 if they are not there
        private transient byte[] row, event;

        @Override
        public void open(OpenContext context) {
            state = getRuntimeContext().getState(new ValueStateDescriptor<>("row", PrimitiveArrayTypeInfo.BYTE_PRIMITIVE_ARRAY_TYPE_INFO));
            oldAt = new int[COLUMNS];
            newAt = new int[COLUMNS];
            row = new byte[1 << 10];
            event = new byte[1 << 11];
        }

        @Override
        public void processElement(byte[] copy, Context context, Collector<byte[]> out) throws Exception {
            int op = copy[12];
            if (op != 1 && op != 2 || copy[23] != 0) {
                throw new IllegalStateException("expected INSERTs and UPDATEs without nulls");
            }
            byte[] old = state.value();
            find(copy, copy[22], 24, newAt);
            if (old != null) {
                find(old, old[1], 2, oldAt);
            } else {
                Arrays.fill(oldAt, 0);
            }
            boolean changed = old == null || op == 1 && old[0] == 0;
            int mask = 0, end = 2;
            for (int i = 0; i < COLUMNS; i++) {
                boolean take = newAt[i] != 0 && (oldAt[i] == 0 || wins(copy, newAt[i], old, oldAt[i], i));
                byte[] from = take ? copy : old;
                int at = take ? newAt[i] : oldAt[i];
                if (at == 0) {
                    continue;
                }
                changed |= take;
                mask |= 1 << i;
                int n = 8 + size(from, at + 8, i);
                System.arraycopy(from, at, row, end, n);
                end += n;
            }
            if (!changed) {
                return;
            }
            row[0] = (byte) (op == 1 || old != null && old[0] == 1 ? 1 : 0);
            row[1] = (byte) mask;
            byte[] merged = Arrays.copyOf(row, end);
            state.update(merged);
            ByteBuffer e = ByteBuffer.wrap(event);
            e.put((byte) (old == null ? 1 : 2)).put(copy, 0, 12).put(copy, 13, 8);
            image(old, oldAt, e);
            find(merged, merged[1], 2, newAt);
            image(merged, newAt, e);
            out.collect(Arrays.copyOf(event, e.position()));
        }

        private static void find(byte[] b, int mask, int at, int[] places) {
            for (int i = 0; i < COLUMNS; i++) {
                places[i] = 0;
                if ((mask >> i & 1) != 0) {
                    places[i] = at;
                    at += 8 + size(b, at + 8, i);
                }
            }
        }

        private static int size(byte[] b, int at, int column) {
            return column < TEXTS ? 2 + ((b[at] & 0xff) << 8 | b[at + 1] & 0xff) : 8;
        }

        private static boolean wins(byte[] a, int atA, byte[] b, int atB, int column) {
            long ta = ByteBuffer.wrap(a).getLong(atA), tb = ByteBuffer.wrap(b).getLong(atB);
            if (ta != tb) {
                return ta > tb;
            }
            int skip = 8 + (column < TEXTS ? 2 : 0);
            return Arrays.compareUnsigned(a, atA + skip, atA + 8 + size(a, atA + 8, column),
                    b, atB + skip, atB + 8 + size(b, atB + 8, column)) > 0;
        }

        private static void image(byte[] row, int[] places, ByteBuffer out) {
            if (row == null) {
                out.put((byte) 0);
                return;
            }
            out.put((byte) 1).put(row[1]);
            for (int i = 0; i < COLUMNS; i++) {
                if (places[i] != 0) {
                    out.put(row, places[i] + 8, size(row, places[i] + 8, i));
                }
            }
        }
    }
}
