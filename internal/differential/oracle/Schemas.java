import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

import org.apache.cassandra.cql3.CQLFragmentParser;
import org.apache.cassandra.cql3.CQLStatement;
import org.apache.cassandra.cql3.ColumnIdentifier;
import org.apache.cassandra.cql3.CqlParser;
import org.apache.cassandra.cql3.statements.schema.AlterSchemaStatement;
import org.apache.cassandra.schema.ColumnMetadata;
import org.apache.cassandra.schema.KeyspaceMetadata;
import org.apache.cassandra.schema.Keyspaces;
import org.apache.cassandra.schema.Schema;
import org.apache.cassandra.schema.SchemaTransformation;
import org.apache.cassandra.schema.TableMetadata;
import org.apache.cassandra.service.ClientState;

/** Makes the tables of a CQL file known to Cassandra's classes, as it would on a node, but in memory only. */
final class Schemas
{
    private Schemas()
    {
    }

    static void load(String cql) throws Exception
    {
        Keyspaces schema = Keyspaces.none();
        for (String statement : statements(cql))
        {
            try
            {
                schema = apply(schema, statement);
            }
            catch (Exception e)
            {
                throw new Exception("schema: " + statement, e);
            }
        }
        for (KeyspaceMetadata keyspace : schema)
            load(keyspace);
    }

    private static final Pattern DROP =
        Pattern.compile("ALTER TABLE (NAME)\\.(NAME) DROP (NAME) USING TIMESTAMP (-?\\d+)".replace("NAME", "\\w+|\"(?:[^\"]|\"\")+\""));

    private static Keyspaces apply(Keyspaces schema, String statement) throws Exception
    {
        Matcher drop = DROP.matcher(statement);
        if (drop.matches())
            return drop(schema, name(drop.group(1)), name(drop.group(2)), name(drop.group(3)), Long.parseLong(drop.group(4)));
        CQLStatement.Raw raw = CQLFragmentParser.parseAnyUnhandled(CqlParser::query, statement);
        return ((AlterSchemaStatement) raw.prepare(ClientState.forInternalCalls())).apply(schema);
    }

    /** Drops a column; Cassandra's statement looks for indexes in the files of the table, of which there are none here. */
    private static Keyspaces drop(Keyspaces schema, String keyspaceName, String tableName, String columnName, long micros)
    {
        KeyspaceMetadata keyspace = schema.getNullable(keyspaceName);
        TableMetadata table = keyspace.getTableOrViewNullable(tableName);
        ColumnMetadata column = table.getColumn(new ColumnIdentifier(columnName, true));
        // The schema tables keep whole milliseconds.
        TableMetadata without = table.unbuild().removeRegularOrStaticColumn(column.name).recordColumnDrop(column, micros / 1000 * 1000).build();
        return schema.withAddedOrUpdated(keyspace.withSwapped(keyspace.tables.withSwapped(without)));
    }

    private static String name(String cql)
    {
        return cql.startsWith("\"") ? cql.substring(1, cql.length() - 1).replace("\"\"", "\"") : cql;
    }

    /** 4.0 loads a keyspace; later versions transform the schema. */
    private static void load(KeyspaceMetadata keyspace) throws Exception
    {
        for (Method m : Schema.class.getMethods())
        {
            if (m.getName().equals("load") && m.getParameterCount() == 1 && m.getParameterTypes()[0] == KeyspaceMetadata.class)
            {
                m.invoke(Schema.instance, keyspace);
                return;
            }
        }
        SchemaTransformation add = before -> before.withAddedOrUpdated(keyspace);
        Schema.class.getMethod("transform", SchemaTransformation.class).invoke(Schema.instance, add);
    }

    /** Splits a file at the semicolons that are not within strings, quoted names or comments. */
    private static List<String> statements(String cql)
    {
        List<String> all = new ArrayList<>();
        StringBuilder statement = new StringBuilder();
        for (int i = 0; i < cql.length(); i++)
        {
            char c = cql.charAt(i);
            if (cql.startsWith("--", i) || cql.startsWith("//", i))
            {
                i = end(cql, "\n", i);
            }
            else if (cql.startsWith("/*", i))
            {
                int end = end(cql, "*/", i + 2);
                all.addAll(statements(commentedOut(cql.substring(i + 2, end - 1))));
                i = end;
            }
            else if (c == '\'' || c == '"')
            {
                int end = end(cql, String.valueOf(c), i + 1);
                statement.append(cql, i, end + 1);
                i = end;
            }
            else if (c == ';')
            {
                all.add(statement.toString().trim());
                statement.setLength(0);
            }
            else
            {
                statement.append(c);
            }
        }
        return all;
    }

    /**
     * DESCRIBE puts tables with COMPACT STORAGE into comments, behind a warning that not all of them can be made again: it
     * names the hidden clustering column of those that have no other.
     */
    private static String commentedOut(String comment)
    {
        int at = comment.indexOf("CREATE TABLE");
        if (!comment.trim().startsWith("Warning: Table") || at < 0)
            return "";
        return comment.substring(at).replace("AND CLUSTERING ORDER BY (column1 ASC)", "");
    }

    /** The index of the last character of the next occurrence of mark, or of the file. */
    private static int end(String cql, String mark, int from)
    {
        int at = cql.indexOf(mark, from);
        return at < 0 ? cql.length() - 1 : at + mark.length() - 1;
    }
}
