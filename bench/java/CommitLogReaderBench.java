import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.stream.Stream;

import ch.qos.logback.classic.Level;
import ch.qos.logback.classic.Logger;
import com.sun.management.OperatingSystemMXBean;
import org.apache.cassandra.config.Config;
import org.apache.cassandra.config.DataStorageSpec;
import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.cql3.statements.schema.CreateTableStatement;
import org.apache.cassandra.db.Mutation;
import org.apache.cassandra.db.commitlog.CommitLogDescriptor;
import org.apache.cassandra.db.commitlog.CommitLogReadHandler;
import org.apache.cassandra.db.commitlog.CommitLogReader;
import org.apache.cassandra.db.partitions.PartitionUpdate;
import org.apache.cassandra.db.rows.Cell;
import org.apache.cassandra.db.rows.Row;
import org.apache.cassandra.dht.Murmur3Partitioner;
import org.apache.cassandra.io.util.File;
import org.apache.cassandra.schema.KeyspaceMetadata;
import org.apache.cassandra.schema.KeyspaceParams;
import org.apache.cassandra.schema.Schema;
import org.apache.cassandra.schema.SchemaTransformations;
import org.slf4j.LoggerFactory;

/**
 * Reads the segments of a directory with Cassandra's own CommitLogReader, as often as it is told, and prints the time of
 * the best and of the median pass of those after the warm-up, and the mean CPU time of all threads.
 *
 * <p>Arguments: the directory, with schema.cql in it; the number of passes to warm up, and to measure.
 */
public final class CommitLogReaderBench
{
    /** What one pass finds; the program in Go prints the same. */
    private static final class Touched implements CommitLogReadHandler
    {
        long mutations, cells, sum;

        @Override
        public boolean shouldSkipSegmentOnError(CommitLogReadException e) throws IOException
        {
            throw e;
        }

        @Override
        public void handleUnrecoverableError(CommitLogReadException e) throws IOException
        {
            throw e;
        }

        @Override
        public void handleMutation(Mutation m, int size, int position, CommitLogDescriptor descriptor)
        {
            mutations++;
            for (PartitionUpdate update : m.getPartitionUpdates())
                for (Row row : update)
                    for (Cell<?> cell : row.cells())
                        touch(cell);
        }

        private <V> void touch(Cell<V> cell)
        {
            cells++;
            sum += cell.timestamp() + cell.valueSize() + (cell.accessor().getByte(cell.value(), 0) & 0xff);
        }
    }

    public static void main(String[] args) throws Exception
    {
        Path directory = Path.of(args[0]);
        int warmUp = Integer.parseInt(args[1]), measured = Integer.parseInt(args[2]);

        ((Logger) LoggerFactory.getLogger(Logger.ROOT_LOGGER_NAME)).setLevel(Level.WARN);
        DatabaseDescriptor.clientInitialization(true, () -> {
            Config config = new Config();
            config.max_mutation_size = new DataStorageSpec.IntKibibytesBound("16MiB");
            return config;
        });
        DatabaseDescriptor.setPartitionerUnsafe(Murmur3Partitioner.instance);
        String cql = Files.readString(directory.resolve("schema.cql"));
        KeyspaceMetadata keyspace = KeyspaceMetadata.create("bench", KeyspaceParams.local());
        Schema.instance.transform(SchemaTransformations.addKeyspace(keyspace, true), true);
        Schema.instance.transform(SchemaTransformations.addTable(CreateTableStatement.parse(cql, "bench").build(), true), true);

        List<Path> paths;
        try (Stream<Path> list = Files.list(directory))
        {
            paths = list.filter(p -> p.toString().endsWith(".log")).sorted().toList();
        }
        OperatingSystemMXBean os = (OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        long[] wall = new long[measured];
        long cpuStart = 0;
        Touched touched = null;
        for (int pass = -warmUp; pass < measured; pass++)
        {
            if (pass == 0)
                cpuStart = os.getProcessCpuTime();
            long start = System.nanoTime();
            touched = new Touched();
            CommitLogReader reader = new CommitLogReader();
            for (Path path : paths)
                reader.readCommitLogSegment(touched, new File(path), CommitLogReader.ALL_MUTATIONS, false);
            if (pass >= 0)
                wall[pass] = System.nanoTime() - start;
        }
        long cpu = os.getProcessCpuTime() - cpuStart;
        Arrays.sort(wall);
        System.out.printf("mutations=%d cells=%d sum=%d wall_best_ns=%d wall_median_ns=%d cpu_mean_ns=%d%n",
                          touched.mutations, touched.cells, touched.sum, wall[0], wall[measured / 2], cpu / measured);
        System.exit(0);
    }
}
