import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;

import org.apache.cassandra.config.DatabaseDescriptor;
import org.apache.cassandra.cql3.statements.schema.CreateTableStatement;
import org.apache.cassandra.db.Clustering;
import org.apache.cassandra.db.DeletionTime;
import org.apache.cassandra.db.LivenessInfo;
import org.apache.cassandra.db.Mutation;
import org.apache.cassandra.db.marshal.Int32Type;
import org.apache.cassandra.db.partitions.PartitionUpdate;
import org.apache.cassandra.db.rows.BTreeRow;
import org.apache.cassandra.db.rows.BufferCell;
import org.apache.cassandra.db.rows.Row;
import org.apache.cassandra.io.util.DataOutputBuffer;
import org.apache.cassandra.net.MessagingService;
import org.apache.cassandra.schema.TableMetadata;
import org.apache.cassandra.utils.ByteBufferUtil;

/**
 * Prints mutations with shadowable row deletions in hexadecimal digits, one a line, as Cassandra's own classes serialize them.
 * Nodes since 4.0 write none, but read them.
 *
 * <p>Usage: ShadowableDeletion FILE with the definition of a table of the keyspace "shadows" that has columns p, c and v.
 */
public final class ShadowableDeletion
{
    public static void main(String[] args) throws Exception
    {
        DatabaseDescriptor.toolInitialization();
        TableMetadata table = CreateTableStatement.parse(Files.readString(Path.of(args[0])), "shadows").build();
        // Cassandra's builder leaves out what the deletion covers, and the deletion if the liveness is newer.
        for (long[] timestamps : new long[][]{ { 99, 99 }, { 100, 100 }, { 101, 101 }, { 99, 101 } })
        {
            Row.Builder row = BTreeRow.unsortedBuilder();
            row.newRow(Clustering.make(Int32Type.instance.decompose(1)));
            row.addRowDeletion(Row.Deletion.shadowable(DeletionTime.build(100, 1700000000)));
            row.addPrimaryKeyLivenessInfo(LivenessInfo.create(timestamps[0], 0));
            row.addCell(BufferCell.live(table.getColumn(ByteBufferUtil.bytes("v")), timestamps[1], Int32Type.instance.decompose(7)));
            Mutation mutation = new Mutation(PartitionUpdate.singleRowUpdate(table, Int32Type.instance.decompose(1), row.build()));
            try (DataOutputBuffer out = new DataOutputBuffer())
            {
                Mutation.serializer.serialize(mutation, out, MessagingService.VERSION_40);
                System.out.println(ByteBufferUtil.bytesToHex(ByteBuffer.wrap(out.toByteArray())));
            }
        }
        System.exit(0);
    }
}
